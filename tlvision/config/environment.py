"""What a run stood on, so that it can be repeated: code, packages, data, device."""

from __future__ import annotations

import hashlib
import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from tlvision.config.assemble import Parts

PACKAGES = ("torch", "torchvision", "lightning-fabric", "numpy", "opencv-python", "faster-coco-eval", "safetensors")


def describe_environment(parts: Parts, fabric: Fabric) -> dict[str, Any]:
    """Return a JSON-able description; files by sha256, images by the hash of their names and sizes in bytes."""
    from tlvision.training.fabric import choose_precision

    packages = [*PACKAGES, *([parts.plugin.upstream] if parts.plugin.upstream else [])]
    weights = Path(parts.config.model.weights)
    return {
        "tlvision": _version("tlvision"),
        "commit": _commit(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "plugin": {"name": parts.plugin.name, "licence": parts.plugin.licence},
        "weights": {"source": parts.report.source, "sha256": _sha256(weights) if weights.is_file() else None},
        "data": {
            "train": _describe_data(parts.train.path, [sample.path for sample in parts.train.samples]),
            "val": _describe_data(parts.val.path, [sample.path for sample in parts.val.samples]),
        },
        "seed": parts.config.train.seed,
        "device": str(fabric.device),
        "precision": choose_precision(parts.config.train),
        "processes": fabric.world_size,
    }


def _describe_data(json_path: Path, images: list[Path]) -> dict[str, Any]:
    names = hashlib.sha256()
    for path in sorted(images):
        names.update(f"{path.name} {path.stat().st_size}\n".encode())
    return {
        "json": str(json_path),
        "sha256": _sha256(json_path),
        "images": len(images),
        "images_sha256": names.hexdigest(),
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
