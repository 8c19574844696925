"""What every test may ask for."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tiny import QUIET, config_of

# Tests run side by side, one a core; threads inside them would only fight. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Refuse a nightly test that is not slow: `-m "not slow"` would run it."""
    quick = [
        item.nodeid for item in items if item.get_closest_marker("nightly") and not item.get_closest_marker("slow")
    ]
    if quick:
        raise pytest.UsageError(f"nightly, but not slow: {quick[0]}")


@pytest.fixture(scope="session", autouse=True)
def no_flush() -> Iterator[None]:
    """Make os.fsync do nothing: it takes a fifth of a tiny run, and no test outlives a loss of power."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", os.fstat)
        yield


@pytest.fixture(scope="session")
def repository() -> Path:
    """The root of the checkout."""
    return REPOSITORY


@pytest.fixture
def tools(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Any]:
    """Return `tools(name)`, which imports a module of tools/, such as "benchmarks.transfer"."""
    monkeypatch.syspath_prepend(str(repository / "tools"))
    return import_module


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real images and weights; the test is skipped where it is absent."""
    folder = Path(os.environ.get("TLVISION_SHARED", REPOSITORY.parent / "shared"))
    if not (folder / "data").is_dir():
        pytest.skip(f"no real data at {folder}; set TLVISION_SHARED to the folder that holds data/ and weights/")
    return folder


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images/, train.json and val.json: 12 + 4 images of bright boxes, classes dark and light."""
    import cv2
    import numpy as np

    from tlvision.formats.coco import write_dataset
    from tlvision.types import ClassMap, Sample, Target

    folder = tmp_path_factory.mktemp("tiny")
    (folder / "images").mkdir()
    rng = np.random.default_rng(0)
    samples = []
    for number in range(1, 17):
        image = rng.integers(0, 40, (64, 96, 3)).astype(np.uint8)
        count = 0 if number % 8 == 0 else int(rng.integers(1, 4))
        boxes = np.zeros((count, 4), np.float32)
        labels = rng.integers(0, 2, count)
        for row, label in enumerate(labels):
            x, y, w, h = rng.integers(0, 60), rng.integers(0, 36), rng.integers(14, 32), rng.integers(14, 26)
            image[y : y + h, x : x + w] = (90, 90, 200) if label else (60, 220, 60)
            boxes[row] = x, y, x + w, y + h
        path = folder / "images" / f"{number:03d}.png"
        cv2.imwrite(str(path), image)
        target = Target(boxes=boxes, labels=labels.astype(np.int64), crowd=np.zeros(count, bool))
        samples.append(
            Sample(image_id=number, path=path, width=96, height=64, target=target, segments=(None,) * count, exif=False)
        )
    classes = ClassMap(("dark", "light"), (3, 90))
    write_dataset(folder / "train.json", samples[:12], classes, "bright boxes")
    write_dataset(folder / "val.json", samples[12:], classes, "bright boxes")
    return folder


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Path:
    """The folder of a run of one epoch on `tiny_dataset`; tests that write into it copy it first."""
    import tlvision

    folder = tmp_path_factory.mktemp("small_run") / "run"
    config = config_of(tiny_dataset, folder, epochs=1, hooks=(QUIET,))
    config["data"]["workers"] = 0
    config["run"]["report"] = True
    tlvision.train(config)
    return folder


def digests(folder: Path) -> dict[str, str]:
    """Return the content of every file below a folder, as hashes by relative name."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="session")
def digests_of() -> Callable[[Path], dict[str, str]]:
    """The function `digests`."""
    return digests


@pytest.fixture(autouse=True)
def no_input_changes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Hash every file of `tiny_dataset` around each test that uses it: no command may change an input."""
    if "tiny_dataset" not in request.fixturenames:
        yield
        return
    folder = request.getfixturevalue("tiny_dataset")
    before = digests(folder)
    assert len(before) > 16
    yield
    assert digests(folder) == before, f"an input changed: {folder}"


@pytest.fixture
def tiny_config(tiny_dataset: Path, tmp_path: Path) -> dict[str, Any]:
    """A run of a few seconds on `tiny_dataset`, quiet."""
    return config_of(tiny_dataset, tmp_path / "run")


@pytest.fixture
def write_files(tmp_path: Path) -> Callable[[Any, Any], tuple[Path, Path]]:
    """Write ground truth and results as JSON files and return their paths."""

    def write(truth: Any, results: Any) -> tuple[Path, Path]:
        paths = tmp_path / "gt.json", tmp_path / "predictions.json"
        for path, content in zip(paths, (truth, results), strict=True):
            path.write_text(json.dumps(content), encoding="utf-8")
        return paths

    return write
