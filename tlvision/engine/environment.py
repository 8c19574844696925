"""Record code version, packages, data hashes and device, so that a run can be reproduced."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.files.inputs import file_hash
from tlvision.library.library import weights_hash

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.engine.build import Run
    from tlvision.formats.coco import UnlabelledData
    from tlvision.types import Dataset

PACKAGES = ("torch", "torchvision", "lightning-fabric", "numpy", "opencv-python", "faster-coco-eval", "safetensors")


def describe_environment(parts: Run, fabric: Fabric) -> dict[str, Any]:
    """Return a JSON-able description; files by sha256, images and label maps by the hash of names and sizes."""
    from tlvision.training.fabric import choose_precision

    packages = [*PACKAGES, *([parts.plugin.upstream] if parts.plugin.upstream else [])]
    return {
        "tlvision": _version("tlvision"),
        "commit": _commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "plugin": {"name": parts.plugin.name, "licence": parts.plugin.licence},
        "weights": {"source": parts.report.source, "sha256": weights_hash(parts.config.model.weights)},
        "data": describe_data(parts),
        "seed": parts.config.train.seed,
        "device": str(fabric.device),
        "precision": choose_precision(parts.config.train),
        "processes": fabric.world_size,
    }


def describe_data(parts: Run) -> dict[str, Any]:
    """Return the data of a run, so that a resumed run can be compared with it; images by names and sizes."""
    return {
        "train": _describe_data(parts.train),
        "val": _describe_data(parts.val),
        **({} if parts.source_val is None else {"source_val": _describe_data(parts.source_val)}),
        **({} if parts.unlabelled is None else {"target": _describe_images(parts.unlabelled)}),
    }


def _describe_data(data: Dataset) -> dict[str, Any]:
    labels = data.path
    images = [sample.path for sample in data.samples]
    files = [sample.label_map.path for sample in data.samples if sample.label_map is not None]
    return {
        "labels": str(labels),
        "sha256": file_hash(labels) if labels.is_file() else None,
        "images": len(images),
        "images_sha256": _names_and_sizes(images),
        "label_maps_sha256": _names_and_sizes(files) if files else None,
        "label_maps_content": _contents(files) if files else None,
    }


def _describe_images(data: UnlabelledData) -> dict[str, Any]:
    images = [image.path for image in data.images]
    return {"path": str(data.path), "images": len(images), "images_sha256": _names_and_sizes(images)}


def _names_and_sizes(paths: list[Path]) -> str:
    names = hashlib.sha256()
    for path in sorted(paths):
        names.update(f"{path.name} {path.stat().st_size}\n".encode())
    return names.hexdigest()


def _contents(paths: list[Path]) -> str:
    """Return one hash of the content of small files; a label map that is painted over often keeps its size."""
    contents = hashlib.sha256()
    for path in sorted(paths):
        contents.update(hashlib.sha256(path.read_bytes()).digest())
    return contents.hexdigest()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(__file__).resolve().parents[2]
    if not (folder / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=5,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
