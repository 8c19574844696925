"""Seconds and peak memory of reading a COCO json of 1,000,000 annotations, each reader in a process of its own.

    python tools/benchmarks/reading.py

20,000 images, 80 classes, deterministic; once with boxes alone and once with a polygon of eight points each. The image
files are there, small JPEGs, because training reads their headers; an evaluation opens none. `json` is Python's parser
alone, without any check. The median of three runs counts.
"""

from __future__ import annotations

import io
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

IMAGES, CLASSES, ANNOTATIONS, REPEATS = 20_000, 80, 1_000_000, 3
WIDTH, HEIGHT = 640, 480
READERS = {
    "json": "import json\ndata = json.loads(path.read_bytes())",
    "training on boxes": "data = read_coco(path, folder)",
    "training on masks": "data = read_coco(path, folder, require_masks=True)",
    "ground truth of boxes": "data = read_ground_truth(path)",
}
"""Name -> program; `path` is the json, `folder` the images."""


def write_json(path: Path, annotations: int, *, polygons: bool) -> None:
    """Write the json."""
    rng = np.random.default_rng(0)
    sides = np.clip(rng.lognormal(3.5, 0.8, (annotations, 2)), 4, 300).round(2)
    corners = (rng.random((annotations, 2)) * (np.array([WIDTH, HEIGHT]) - sides)).round(2)
    images, labels = rng.integers(1, IMAGES + 1, annotations), rng.integers(1, CLASSES + 1, annotations)
    turns = np.arange(8) * np.pi / 4
    circle = 0.5 + 0.5 * np.stack([np.cos(turns), np.sin(turns)], axis=1)  # (8, 2)
    head: dict[str, Any] = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(1, IMAGES + 1)],
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, CLASSES + 1)],
    }
    with path.open("w", encoding="ascii") as file:
        file.write(json.dumps(head)[:-1] + ', "annotations": [')
        for number in range(annotations):
            row = {"id": number + 1, "image_id": int(images[number]), "category_id": int(labels[number])}
            row |= {"bbox": [*corners[number].tolist(), *sides[number].tolist()], "iscrowd": 0}  # type: ignore[dict-item]
            row["area"] = float(sides[number].prod().round(2))  # type: ignore[assignment]
            if polygons:
                points = (corners[number] + circle * sides[number]).round(2)
                row["segmentation"] = [points.ravel().tolist()]  # type: ignore[assignment]
            file.write((", " if number else "") + json.dumps(row))
        file.write("]}")


def write_images(folder: Path) -> None:
    """Write one small JPEG under every name."""
    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), "grey").save(out, "JPEG")
    folder.mkdir()
    for number in range(1, IMAGES + 1):
        (folder / f"{number}.jpg").write_bytes(out.getvalue())


def measure(reader: str, path: Path, folder: Path) -> dict[str, float]:
    """Return seconds and peak MiB of one reader in a fresh process; imports are not counted in the seconds."""
    program = (
        "import json, resource, sys, time\nfrom pathlib import Path\n"
        "from tlvision.evaluation.read import read_ground_truth\nfrom tlvision.formats.coco import read_coco\n"
        f"path, folder = map(Path, sys.argv[1:])\nstart = time.perf_counter()\n{READERS[reader]}\n"
        "seconds = time.perf_counter() - start\n"
        "peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024\n"
        "print(json.dumps({'seconds': seconds, 'cpu_seconds': time.process_time(), 'peak_mib': peak}))"
    )
    command = [sys.executable, "-c", program, str(path), str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def run() -> list[tuple[str, str, dict[str, float]]]:
    """Return kind of annotations, reader, and medians of seconds, CPU seconds and peak MiB."""
    rows = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "images"
        write_images(folder)
        for kind, polygons in (("boxes", False), ("polygons", True)):
            path = Path(place) / f"{kind}.json"
            write_json(path, ANNOTATIONS, polygons=polygons)
            readers = [name for name in READERS if polygons or name != "training on masks"]
            for name in readers:
                found = [measure(name, path, folder) for _ in range(REPEATS)]
                rows.append((kind, name, {key: statistics.median(row[key] for row in found) for key in found[0]}))
    return rows


def main() -> None:
    """Print a table."""
    for kind, name, row in run():
        print(
            f"{kind:<10}{name:<24}{row['seconds']:7.1f} s {row['cpu_seconds']:7.1f} CPU s {row['peak_mib']:7.0f} MiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
