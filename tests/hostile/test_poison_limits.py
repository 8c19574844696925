"""Hostile files are refused in little memory and time: each is read in a process of its own with limits of both."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from poison import tools as labels_of_tools
from poison.dataset import Build, coco, put, raw
from poison.pictures import png, replaced

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="limits of processes are Linux's")]

GIBIBYTE = 1 << 30
READ = """
import resource, sys
from pathlib import Path
from poison import dataset, predictions
import tlvision.data.images, tlvision.formats.exchange, tlvision.evaluation, faster_coco_eval
from tlvision.formats.coco import read_coco
from tlvision.types import InputError
resource.setrlimit(resource.RLIMIT_AS, (int(sys.argv[3]), int(sys.argv[3])))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    for note in eval(sys.argv[2])(Path(sys.argv[1])):
        print("note:", note)
except InputError as error:
    print("refused:", error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def sparse(name: str, size: int) -> Build:
    """Return a builder of the dataset in which a file claims a size; its blocks are not on the disk."""

    def build(folder: Path) -> None:
        coco()(folder)
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return build


def spaced(folder: Path) -> None:
    """Write 200 MB of open brackets."""
    raw(b"[" * 200_000_000)(folder)


def many_zigzags(folder: Path) -> None:
    """Write polygons of 200,000 zigzags across the image."""
    coco(put("annotations.*.segmentation", [[0, 0, 40, 24] * 50_000]))(folder)
    (folder / "predictions.json").write_text("[]")


def sixteen_bits(folder: Path) -> None:
    """Write an image of 144 million pixels of 16 bits that compresses to nothing, whose highest value is measured."""
    replaced(png(12_000, 12_000, bytes(12_000 * 24_001), bits=16, colour=0))(folder)


def same_images(folder: Path) -> None:
    """Write 300 rows of one file under 300 names."""
    coco()(folder)
    content = json.loads((folder / "labels.json").read_text())
    for number in range(300):
        name = f"{number}.png"
        Image.fromarray(np.zeros((24, 40, 3), np.uint8)).save(folder / "images" / name)
        content["images"].append({"id": 100 + number, "file_name": name})
    (folder / "labels.json").write_text(json.dumps(content))


CASES: dict[str, tuple[Build, str, int, str]] = {
    "a json of 1 TiB": (sparse("labels.json", 1 << 40), "dataset.read_boxes", 300, "bytes, too many for the memory"),
    "a json of 3 GiB": (sparse("labels.json", 3 << 30), "dataset.read_boxes", 300, "bytes, too many for the memory"),
    "200 MB of brackets": (spaced, "dataset.read_boxes", 700, "nested too deeply"),
    "a polygon of 10^9 pixels": (
        coco(put("annotations.*.segmentation", [[0, 0, 1e9, 0, 9, 9]])), "dataset.read_masks", 100, "pixels long"
    ),
    "polygons of 50,000 zigzags": (many_zigzags, "dataset.evaluate()", 200, "pixels long"),
    "a PNG of 10^9 pixels": (replaced(png(31_623, 31_623)), "dataset.decode", 100, "is too large"),
    "16 bits that compress to nothing": (sixteen_bits, "dataset.read_boxes", 1200, "values, of which 8 bits"),
    "names that expand to 10^9 characters": (
        labels_of_tools.yolo("data.yaml", f"a: {labels_of_tools.BOMB}names: [*i]\ntrain: images/train\n"),
        "dataset.convert", 100,
        "expected a list of class names",
    ),
    "xml of 1,000,000 elements in each other": (
        labels_of_tools.one_file("export.xml", f"<annotations>{'<a>' * 1_000_000}{'</a>' * 1_000_000}</annotations>"),
        "dataset.convert", 600, "has no image",
    ),
    "300 images that are one": (same_images, "dataset.read_boxes", 100, "width or height is missing"),
}  # fmt: skip
"""Name -> builder, entry, most MiB beyond the imports, words of the sentence or note."""
assert CASES


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_file_takes_little_memory_and_time(name: str, tmp_path: Path, repository: Path) -> None:
    build, entry, most, words = CASES[name]
    build(tmp_path)
    command = [sys.executable, "-c", READ, str(tmp_path), entry, str(2 * GIBIBYTE)]
    paths = f"{repository}:{repository / 'plugins'}:{repository / 'tests' / 'helpers'}"
    done = subprocess.run(
        command,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
        env={"PYTHONPATH": paths, "PATH": "", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert words in done.stdout
    assert int(done.stdout.split()[-1]) / 1024 < most


def test_a_json_of_1_000_000_annotations_takes_less_than_2_gib(
    tmp_path: Path, tools: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading = tools("benchmarks.reading")  # type: ignore[operator]
    monkeypatch.setattr(reading, "IMAGES", 500)  # the images are headers, the memory is the annotations
    reading.write_images(tmp_path / "images")
    reading.write_json(tmp_path / "labels.json", 1_000_000, polygons=False)
    measured = reading.measure("training on boxes", tmp_path / "labels.json", tmp_path / "images")
    assert measured["peak_mib"] < 2048
