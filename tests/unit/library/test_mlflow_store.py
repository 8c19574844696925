"""A library in an MLflow registry: a local store stands for a server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tlvision.cli.main import main
from tlvision.files.inputs import file_hash
from tlvision.library.address import Address, parse
from tlvision.library.library import VARIABLE, Library, local_weights, open_library, pinned
from tlvision.library.mlflow_store import MlflowStore
from tlvision.types import InputError

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # before the import
mlflow: Any = pytest.importorskip("mlflow", reason="MLflow is an extra: pip install 'tlvision[mlflow]'")
WEIGHTS = "checkpoints/best/model.safetensors"


@pytest.fixture
def uri(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new store, in the current folder, with its artifacts; with a cache of the test."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


@pytest.mark.slow
def test_versions_go_in_and_come_out_and_a_run_starts_from_one(
    uri: str, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    client = mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)
    client.create_registered_model("of-others")
    run = client.create_run("0")
    client.create_model_version("of-others", run.info.artifact_uri, run.info.run_id)
    monkeypatch.setenv(VARIABLE, f"mlflow:{uri}")
    library = open_library()
    assert list(library.entries()) == []
    assert main(["models", "add", str(small_run), "--name", "cells", "--note", "first"]) == 0
    assert f"added  cells@1 (run) in mlflow:{uri}" in capsys.readouterr().out
    assert library.add(small_run, "cells")[1] is False, "the same content"
    changed = Path(shutil.copytree(small_run, tmp_path / "changed"))
    (changed / "metrics.json").write_text((small_run / "metrics.json").read_text() + "\n")
    assert str(library.add(changed, "cells")[0].address) == "cells@2"
    assert [str(each.address) for each in library.entries()] == ["cells@1", "cells@2"]
    (version,) = client.search_model_versions("name='cells' and version_number=1")
    assert version.tags["tlvision.kind"] == "run"
    assert version.tags["tlvision.weights_sha256"] == file_hash(small_run / WEIGHTS)

    fresh = Library(MlflowStore(uri, tmp_path / "other cache"))  # as on another machine
    entry = fresh.get(Address("cells", 1), tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == set(entry.about["files"])
    assert all(file_hash(tmp_path / "out" / name) == file_hash(small_run / name) for name in names)
    assert pinned("library://cells") == "library://cells@2"
    assert file_hash(Path(local_weights("library://cells@1"))) == file_hash(small_run / WEIGHTS)

    Path(local_weights("library://cells@1")).write_bytes(b"x")
    with pytest.raises(InputError, match="is missing or has changed since it was added"):
        local_weights("library://cells@1")
    with pytest.raises(InputError, match=r"has no model 'cell'\. Did you mean 'cells'"):
        library.entry(parse("cell"))


def test_an_address_that_is_none_is_a_sentence(uri: str) -> None:
    with pytest.raises(InputError, match=r"models: the registry 'mlflow:nonsense://x' cannot be read: "):
        list(open_library("mlflow:nonsense://x").entries())
