"""Tiles of large images: where they lie, and which labels they have."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.data.settings import TileSettings
from tlvision.data.tiles import cut_sample, tile_windows
from tlvision.engine.tiles import cut_tiles
from tlvision.formats.coco import CocoData
from tlvision.formats.coco.rle import mask_to_rle, segment_to_mask
from tlvision.formats.label_maps import LabelMapData, read_label_map, write_label_map
from tlvision.types import ClassMap, InputError, LabelMapFile, Sample

MakeSample = Callable[..., Sample]


@pytest.mark.parametrize("seed", range(8))
def test_tiles_cover_the_image_and_overlap_enough(seed: int) -> None:
    rng = np.random.default_rng(seed)
    height, width, size = (int(each) for each in rng.integers(40, 400, 3))
    overlap = float(rng.uniform(0, 0.6))
    seen = np.zeros((height, width), int)
    windows = tile_windows(height, width, size, overlap)
    for x0, y0, x1, y1 in windows:
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height
        assert (x1 - x0, y1 - y0) == (min(size, width), min(size, height))
        seen[y0:y1, x0:x1] += 1
    assert seen.min() >= 1
    for axis, length in ((0, width), (1, height)):
        starts = sorted({window[axis] for window in windows})
        assert all(after - before <= size * (1 - overlap) + 1 for before, after in pairwise(starts))
        assert len(starts) <= max(1, np.ceil((length - size * overlap) / (size * (1 - overlap) - 1)))


def outlined(rng: np.random.Generator) -> tuple[list[float], np.ndarray]:
    """A random triangle in 100 x 120 pixels, with the box around it."""
    turn = rng.uniform(0, 2) + np.arange(3) * 2 * np.pi / 3
    points = (rng.uniform((0, 0), (120, 100)) + 25 * np.stack([np.cos(turn), np.sin(turn)], 1)).clip(0, (120, 100))
    points = points.astype(np.float32)
    return [*points.min(axis=0).tolist(), *points.max(axis=0).tolist()], points


@pytest.mark.parametrize("kind", ["polygons", "run lengths"])
@pytest.mark.parametrize("seed", range(4))
def test_labels_of_a_tile_are_those_of_its_pixels(kind: str, seed: int, make_sample: MakeSample) -> None:
    rng = np.random.default_rng(seed)
    shapes = [outlined(rng) for _ in range(12)]
    segments: list[Any] = [(points,) for _, points in shapes]
    if kind == "run lengths":
        segments = [mask_to_rle(segment_to_mask(each, 100, 120)) for each in segments]
    sample = make_sample(1, (100, 120), [box for box, _ in shapes], segments=segments)
    window = (20, 10, 90, 80)
    tile, cut = cut_sample(sample, window, Path("t.png"), min_visible=0.3)
    kept, lost = [], 0
    for index, segment in enumerate(segments):
        mask = segment_to_mask(segment, 100, 120)
        share = mask[10:80, 20:90].sum() / mask.sum()
        kept += [index] if share >= 0.3 else []
        lost += 0 < share < 0.3
    assert len(tile.target) == len(kept)
    assert cut == lost
    assert 0 < len(kept) < 12
    assert (tile.width, tile.height, tile.origin) == (70, 70, sample.path)
    for row, index in enumerate(kept):
        inside = segment_to_mask(segments[index], 100, 120)[10:80, 20:90]
        found = segment_to_mask(tile.segments[row], 70, 70)  # type: ignore[arg-type]
        assert (found != inside).sum() <= (0 if kind == "run lengths" else 0.02 * inside.sum() + 8)
        rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
        around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
        assert np.abs(tile.target.boxes[row] - around).max() <= 1.01


def test_a_box_without_a_mask_is_clipped_and_a_crowd_stays(make_sample: MakeSample) -> None:
    boxes = [[0, 0, 20, 20], [5, 5, 15, 15], [0, 0, 12, 12], [40, 40, 50, 50]]
    sample = make_sample(1, (60, 60), boxes, labels=[0, 1, 2, 3], crowd=[False, False, True, False])
    tile, cut = cut_sample(sample, (10, 10, 40, 40), Path("t.png"), min_visible=0.26)
    assert tile.target.labels.tolist() == [2]
    assert cut == 2
    tile, cut = cut_sample(sample, (10, 10, 40, 40), Path("t.png"), min_visible=0.25)
    assert tile.target.labels.tolist() == [0, 1, 2]
    assert tile.target.boxes.tolist() == [[0, 0, 10, 10], [0, 0, 5, 5], [0, 0, 2, 2]]
    assert cut == 0


def data_of(*samples: Sample) -> CocoData:
    folder = samples[0].path.parent
    return CocoData(folder / "t.json", folder, samples, ClassMap(("a", "b"), (1, 2)), {0: 1, 1: 2}, ())


def test_training_images_are_cut_into_files(make_sample: MakeSample, tmp_path: Path) -> None:
    large = make_sample(1, (100, 150), [[10, 10, 30, 30], [90, 60, 110, 80]], labels=[0, 1])
    small = make_sample(2, (40, 50), [[10, 10, 30, 30]])
    settings = TileSettings(size=60, overlap=0.2, empty=0.0, whole=False)
    data, notes = cut_tiles(data_of(large, small), settings, tmp_path / "tiles", seed=0)
    assert "1 training image cut into tiles of 60 px" in notes[0]
    pixels = np.asarray(Image.open(large.path))
    assert [sample.image_id for sample in data.samples] == list(range(1, len(data.samples) + 1))
    tiles = [sample for sample in data.samples if sample.origin is not None]
    assert 2 <= len(tiles) < len(tile_windows(100, 150, 60, 0.2))
    for tile in tiles:
        x0, y0 = map(int, tile.path.stem.split("_"))
        assert (np.asarray(Image.open(tile.path)) == pixels[y0 : y0 + 60, x0 : x0 + 60]).all()
        for box, label in zip(tile.target.boxes, tile.target.labels, strict=True):
            whole = large.target.boxes[label] - [x0, y0, x0, y0]
            assert np.allclose(box, whole.clip(0, 60))
    assert data.samples[-1].path == small.path, "an image that is no larger than a tile stays"
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tiles").rglob("*.png")}
    again, _ = cut_tiles(data_of(large, small), settings, tmp_path / "tiles", seed=0)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tiles").rglob("*.png")} == before
    assert [sample.path for sample in again.samples] == [sample.path for sample in data.samples]


def test_empty_tiles_come_at_their_rate_and_the_whole_image_too(make_sample: MakeSample, tmp_path: Path) -> None:
    samples = [make_sample(n, (300, 300), [[1, 1, 20, 20]]) for n in range(1, 9)]
    settings = TileSettings(size=50, overlap=0.0, empty=0.25)
    data, _ = cut_tiles(data_of(*samples), settings, tmp_path / "tiles", seed=3)
    tiles = [sample for sample in data.samples if sample.origin is not None]
    assert sum(sample.origin is None for sample in data.samples) == 8
    empty = sum(not len(tile.target) for tile in tiles)
    assert len(tiles) - empty == 8
    assert 0.15 < empty / (8 * 35) < 0.35
    bare = [replace(sample, target=make_sample(99, (4, 4)).target, segments=()) for sample in samples]
    with pytest.raises(InputError, match=r"data\.tiles: no tile is left"):
        cut_tiles(data_of(*bare), TileSettings(size=50, empty=0.0, whole=False), tmp_path / "tiles", seed=3)
    _, notes = cut_tiles(data_of(*samples), TileSettings(size=300), tmp_path / "tiles", seed=3)
    assert notes == ["data.tiles: no training image is larger than 300 px, so none is cut"]


def test_label_maps_are_cut_with_their_images(make_sample: MakeSample, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 3, (60, 90))
    write_label_map(tmp_path / "labels.png", labels * 100)
    file = LabelMapFile(tmp_path / "labels.png", {0: 0, 100: 1, 200: 2, 255: 255})
    sample = replace(make_sample(1, (60, 90)), label_map=file)
    classes = ClassMap(("a", "b", "c"), (0, 100, 200))
    data = LabelMapData(tmp_path, tmp_path, (sample,), classes, np.zeros(3, np.int64), ())
    cut, _ = cut_tiles(data, TileSettings(size=40, whole=False), tmp_path / "tiles", seed=0)
    assert len(cut.samples) == 6
    for tile in cut.samples:
        x0, y0 = map(int, tile.path.stem.split("_"))
        assert tile.label_map is not None
        assert (read_label_map(tile.label_map) == labels[y0 : y0 + 40, x0 : x0 + 40]).all()
