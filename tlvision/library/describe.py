"""Read what a library keeps of a run or a bundle: its files, and the facts of its entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tlvision.files.inputs import file_hash
from tlvision.files.json_files import read_object
from tlvision.runtime.bundle import is_bundle, read_bundle
from tlvision.types import InputError

WEIGHTS = "checkpoints/best/model.safetensors"
"""The weights of a run that are fine-tuned further."""
_REMEDY = "Restore the file from a copy, or use another run."
_OF_A_RUN = (
    "calibration.json",
    "classes.json",
    "config.yaml",
    "environment.json",
    "finished.json",
    "ledger.json",
    "metrics.json",
    "report.html",
    "report.json",
    "thresholds.json",
)
_NEEDED = ("classes.json", "config.yaml", "environment.json", "metrics.json", WEIGHTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What is kept.

    kind:    "run" or "bundle". files: relative paths, as text.
    facts:   of the entry: name, task, plugin, arch, classes, metrics, licence, data.
    starts:  sha256 of the weights that it was made from, and their name; None if there are none.
    weights: sha256 of its own weights; of a bundle, of the run that it was exported from.
    """

    kind: str
    files: tuple[str, ...]
    facts: Mapping[str, Any]
    starts: Mapping[str, Any]
    weights: str | None


def describe(folder: Path) -> Description:
    """Describe a folder; InputError if it is neither a finished run nor a bundle."""
    if not folder.is_dir():
        raise InputError(f"models: there is no folder '{folder}'; give a run, or a bundle of 'tlvision export'")
    return _bundle(folder) if is_bundle(folder) else _run(folder)


def _run(folder: Path) -> Description:
    if not (folder / "config.yaml").is_file():
        raise InputError(f"models: '{folder}' is neither a run nor a bundle")
    if not (folder / "finished.json").is_file():
        raise InputError(
            f"models: the run '{folder}' has not come to its end. Continue it: tlvision train --resume {folder}"
        )
    missing = [name for name in _NEEDED if not (folder / name).is_file()]
    if missing:
        raise InputError(f"models: '{folder / missing[0]}' is missing. {_REMEDY}")
    best = [each.relative_to(folder).as_posix() for each in sorted((folder / "checkpoints" / "best").iterdir())]
    files = [name for name in _OF_A_RUN if (folder / name).is_file()]
    environment = read_object(folder / "environment.json", _REMEDY)
    config: Any = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
    try:
        model, started = config["model"], environment["weights"]
        facts = {
            "of": folder.resolve().name,
            "task": read_object(folder / "metrics.json", _REMEDY)["task"],
            "plugin": environment["plugin"]["name"],
            "arch": model["arch"],
            "classes": read_object(folder / "classes.json", _REMEDY)["names"],
            "metrics": _numbers(read_object(folder / "metrics.json", _REMEDY)),
            "licence": environment["plugin"]["licence"],
            "data": environment["data"],
            "made_with": environment["tlvision"],
        }
        starts = {"source": str(model["weights"]), "sha256": started["sha256"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"models: '{folder}' is damaged: {error} is missing in its files. {_REMEDY}") from None
    return Description(
        kind="run", files=(*files, *best), facts=facts, starts=starts, weights=file_hash(folder / WEIGHTS)
    )


def _bundle(folder: Path) -> Description:
    bundle = read_bundle(folder)
    listed = read_object(folder / "bundle.json", _REMEDY)["files"]
    files = [name for name in listed if not name.startswith("evaluations/")]
    about = bundle.provenance
    facts = {
        "of": bundle.name,
        "task": bundle.task,
        "plugin": about.get("plugin", {}).get("name"),
        "arch": about.get("arch"),
        "classes": list(bundle.classes.names),
        "metrics": {} if not bundle.check else {bundle.check["metric"]: bundle.check["bundle"]},
        "licence": bundle.licence,
        "data": about.get("data", {}),
        "made_with": about.get("tlvision"),
        "format": bundle.graph_format,
    }
    weights = about.get("model_sha256")
    return Description(
        kind="bundle",
        files=("bundle.json", *files),
        facts=facts,
        starts={"source": f"run {bundle.name}", "sha256": weights},
        weights=None,
    )


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Return the overall numbers of metrics.json as "bbox/AP" and so on."""
    kinds = ("bbox", "segm", "semantic")
    return {
        f"{kind}/{name}": float(value)
        for kind in kinds
        for name, value in (metrics.get(kind) or {}).items()
        if isinstance(value, int | float)
    }
