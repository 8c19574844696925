"""Keep the models of a library in the registry of an MLflow server, or of a local MLflow store.

A version is a model version of MLflow whose run has the files as artifacts below `model/`, so that it can be seen,
tagged and promoted in MLflow's own pages. Files are downloaded when they are needed, and kept in a cache.

Source: https://mlflow.org, through `MlflowClient`, which changes no global state.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from tlvision.files.json_files import read_object, write_json
from tlvision.library.address import Address
from tlvision.library.store import ENTRY, FILES, REMEDY
from tlvision.types import InputError, RunError

PREFIX = "mlflow:"
EXPERIMENT, TAG, ARTIFACTS = "tlvision models", "tlvision.kind", "model"


class MlflowStore:
    """A `Store` behind the address of an MLflow server or store.

    uri:   such as http://server:5000 or sqlite:///mlflow.db.
    cache: folder for what was downloaded; None for one in ~/.cache/tlvision.

    Raises InputError if mlflow is not installed.
    """

    def __init__(self, uri: str, cache: Path | None = None) -> None:
        self.uri = uri
        digest = hashlib.sha256(uri.encode()).hexdigest()[:16]
        self._cache = cache or Path.home() / ".cache" / "tlvision" / "mlflow" / digest
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # its makers are told nothing of what is kept
        try:
            mlflow: Any = import_module("mlflow")
        except ImportError:
            raise InputError(
                f"models: the library '{self}' needs the package mlflow. pip install \"tlvision[mlflow]\""
            ) from None
        with self._reaching():
            self._client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)

    def __str__(self) -> str:
        return f"{PREFIX}{self.uri}"

    def names(self) -> list[str]:
        """Return the registered models with versions of ours."""
        return sorted({each.name for each in self._all()})

    def versions(self, name: str) -> list[int]:
        """Return the versions of ours."""
        return sorted(int(each.version) for each in self._all(name))

    def read(self, address: Address) -> tuple[dict[str, Any], Path]:
        """Return entry.json and the folder of the files in the cache."""
        place = self._place(address)
        self._download(address, ENTRY)
        return {**read_object(place / ENTRY, REMEDY), "version": address.version}, place / FILES

    def fetch(self, address: Address, name: str) -> None:
        """Download a file that the cache has not got."""
        self._download(address, f"{FILES}/{name}")

    def publish(self, name: str, source: Path, files: Sequence[str], about: Mapping[str, Any]) -> int:
        """Upload the files as artifacts of a run, then make a version of it."""
        with self._reaching(writing=True):
            run = self._client.create_run(self._experiment(), run_name=name)
            key = run.info.run_id
            for each in files:
                folder = Path(ARTIFACTS, FILES, each).parent.as_posix()
                self._client.log_artifact(key, str(source / each), artifact_path=folder)
            with tempfile.TemporaryDirectory(prefix="tlvision-models-") as part:
                write_json(Path(part) / ENTRY, dict(about), indent=1)
                self._client.log_artifact(key, str(Path(part) / ENTRY), artifact_path=ARTIFACTS)
            self._client.set_terminated(key)
            if not self._client.search_registered_models(f"name='{name}'"):
                self._client.create_registered_model(name)
            tags = {TAG: str(about["kind"]), "tlvision.weights_sha256": str(about["weights_sha256"])}
            made = self._client.create_model_version(
                name, f"{run.info.artifact_uri}/{ARTIFACTS}", key, tags=tags, description=about["note"] or None
            )
            return int(made.version)

    def _all(self, name: str | None = None) -> list[Any]:
        """Return the versions that tlvision has made, of one name or of all."""
        found: list[Any] = []
        token: str | None = None
        with self._reaching():
            while True:
                page = self._client.search_model_versions(f"name='{name}'" if name else "", page_token=token)
                found += [each for each in page if TAG in each.tags]
                token = page.token
                if not token:
                    return found

    def _experiment(self) -> str:
        found = self._client.get_experiment_by_name(EXPERIMENT)
        return str(self._client.create_experiment(EXPERIMENT) if found is None else found.experiment_id)

    def _place(self, address: Address) -> Path:
        return self._cache / address.name / str(address.version)

    def _download(self, address: Address, name: str) -> None:
        target = self._place(address) / name
        if target.is_file():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._reaching(), tempfile.TemporaryDirectory(dir=target.parent, prefix=".part-") as part:
            version = self._client.get_model_version(address.name, str(address.version))
            found = self._client.download_artifacts(version.run_id, f"{ARTIFACTS}/{name}", part)
            Path(found).replace(target)

    @contextmanager
    def _reaching(self, *, writing: bool = False) -> Iterator[None]:
        """Turn what MLflow raises into one sentence: it has errors of its own, of requests and of its database."""
        try:
            yield
        except Exception as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
            kind = RunError if writing else InputError
            raise kind(
                f"models: the registry '{self}' cannot be {'written' if writing else 'read'}: {reason}"
            ) from error
