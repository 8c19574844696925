"""What is found in tiles becomes what is in the image: a model that sees perfectly is the reference."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lightning_fabric import Fabric
from PIL import Image

from bright_spots import BrightSpots, spots
from launch import run_script
from tlvision.data.dataset import EvalImages
from tlvision.data.merge_tiles import TilePrediction, merge_label_maps, merge_objects
from tlvision.data.settings import TileSettings
from tlvision.data.tile_images import TileImages
from tlvision.data.tiles import Window, tile_windows
from tlvision.formats.coco import read_unlabelled
from tlvision.inference.predict import Tiling, predict_array, predict_files
from tlvision.types import InputSpec, Prediction

SIZE = 240, 400
TILES = TileSettings(size=100, overlap=0.4)


def scattered(seed: int, count: int = 40) -> np.ndarray:
    """Boxes of at most 35 pixels, which the overlap of 40 shows whole in one tile, that hardly overlap."""
    rng = np.random.default_rng(seed)
    boxes: list[Any] = []
    while len(boxes) < count:
        side = rng.uniform(6, 35, 2)
        low = rng.uniform((0, 0), (SIZE[1] - side[0], SIZE[0] - side[1]))
        box = np.concatenate([low, low + side])
        if all(not (np.minimum(box[2:], b[2:]) > np.maximum(box[:2], b[:2])).all() for b in boxes):
            boxes.append(box)
    return np.array(boxes)


def sees(boxes: np.ndarray, labels: np.ndarray, window: Window, *, masks: bool = False) -> TilePrediction:
    """What a perfect model finds in a window: the visible part of each object, parts with a higher score."""
    x0, y0, x1, y1 = window
    clipped = boxes.clip([x0, y0, x0, y0], [x1, y1, x1, y1])
    visible = (clipped[:, 2:] - clipped[:, :2]).min(axis=1) > 3
    cut = (clipped != boxes).any(axis=1)
    local = (clipped - [x0, y0, x0, y0])[visible].astype(np.float32)
    painted = None
    if masks:
        painted = np.zeros((len(local), y1 - y0, x1 - x0), np.uint8)
        for mask, (a, b, c, d) in zip(painted, local.round().astype(int), strict=True):
            mask[b:d, a:c] = 1
    scores = np.where(cut, 0.9, 0.8)[visible].astype(np.float32)
    return TilePrediction(window, Prediction(boxes=local, scores=scores, labels=labels[visible], masks=painted))


def sorted_rows(boxes: np.ndarray, labels: np.ndarray) -> np.ndarray:
    rows = np.column_stack([labels, boxes.round(2)])
    return rows[np.lexsort(rows.T)]


@pytest.mark.parametrize("merge", ["nms", "wbf"])
@pytest.mark.parametrize("seed", range(4))
def test_every_object_is_found_once_and_whole(seed: int, merge: Any) -> None:
    boxes = scattered(seed)
    labels = np.random.default_rng(seed).integers(0, 3, len(boxes))
    windows = tile_windows(*SIZE, TILES.size, TILES.overlap)
    tiles = [sees(boxes, labels, window) for window in windows]
    assert sum(len(tile.found) for tile in tiles) > 1.5 * len(boxes)
    found = merge_objects(tiles, SIZE, TILES.model_copy(update={"merge": merge}), 300)
    assert np.allclose(sorted_rows(found.boxes, found.labels), sorted_rows(boxes, labels), atol=0.02)
    assert (np.diff(found.scores) <= 0).all()
    fewer = merge_objects(tiles, SIZE, TILES, 10)
    assert len(fewer) == 10


def test_an_object_larger_than_a_tile_comes_from_the_whole_image() -> None:
    boxes, labels = np.array([[20.0, 20, 380, 220]]), np.array([0])
    windows = [*tile_windows(*SIZE, TILES.size, TILES.overlap), (0, 0, SIZE[1], SIZE[0])]
    found = merge_objects([sees(boxes, labels, window) for window in windows], SIZE, TILES, 300)
    assert found.boxes.tolist() == [[20, 20, 380, 220]]


def test_of_the_whole_image_only_what_no_tile_shows_whole_is_taken() -> None:
    whole, overlap = (0, 0, SIZE[1], SIZE[0]), 40
    boxes = np.array([[100, 100, 100 + overlap, 110], [200, 100, 201 + overlap, 110]], np.float32)
    found = Prediction(boxes=boxes, scores=np.array([0.9, 0.8], np.float32), labels=np.zeros(2, int))
    tiles = [TilePrediction((0, 0, 100, 100), Prediction.empty()), TilePrediction(whole, found)]
    assert merge_objects(tiles, SIZE, TILES, 300).boxes.tolist() == boxes[1:].tolist()


def test_weighted_boxes_are_the_mean_by_score() -> None:
    one = Prediction(
        boxes=np.array([[40, 10, 60, 30]], np.float32), scores=np.array([0.75], np.float32), labels=np.array([0])
    )
    other = Prediction(
        boxes=np.array([[12, 10, 32, 34]], np.float32), scores=np.array([0.25], np.float32), labels=np.array([0])
    )
    tiles = [TilePrediction((0, 0, 100, 100), one), TilePrediction((30, 0, 130, 100), other)]
    settings = TileSettings(size=100, merge="wbf", iou=0.5)
    found = merge_objects(tiles, (100, 130), settings, 10)
    assert np.allclose(found.boxes, [[0.75 * 40 + 0.25 * 42, 10, 0.75 * 60 + 0.25 * 62, 0.75 * 30 + 0.25 * 34]])
    assert found.scores.tolist() == [0.75]
    apart = merge_objects(tiles, (100, 130), TileSettings(size=100, iou=0.9), 10)
    assert len(apart) == 2
    twice = Prediction(boxes=one.boxes.repeat(2, 0), scores=one.scores.repeat(2), labels=one.labels.repeat(2))
    one_tile = [TilePrediction((0, 0, 100, 100), twice), TilePrediction((30, 0, 130, 100), Prediction.empty())]
    assert len(merge_objects(one_tile, (100, 130), settings, 10)) == 2, "within a tile the model has decided"


def test_masks_go_where_their_boxes_are() -> None:
    boxes = scattered(5, 12).round()
    labels = np.zeros(12, int)
    tiles = [sees(boxes, labels, window, masks=True) for window in tile_windows(*SIZE, TILES.size, TILES.overlap)]
    found = merge_objects(tiles, SIZE, TILES, 300)
    assert found.masks is not None
    for box, mask in zip(found.boxes.astype(int), found.masks, strict=True):
        expected = np.zeros(SIZE, np.uint8)
        expected[box[1] : box[3], box[0] : box[2]] = 1
        assert (mask == expected).all()


@pytest.mark.parametrize("overlap", [0.0, 0.3])
def test_label_maps_are_seamless(overlap: float) -> None:
    truth = np.random.default_rng(1).integers(0, 5, SIZE)
    tiles = []
    for window in tile_windows(*SIZE, 90, overlap):
        x0, y0, x1, y1 = window
        part = truth[y0:y1, x0:x1].copy()
        if overlap:  # what lies at an inner edge is seen badly, and taken from the neighbour
            part[: 10 if y0 else 0] = part[len(part) - (10 if y1 < SIZE[0] else 0) :] = 9
            part[:, : 10 if x0 else 0] = part[:, part.shape[1] - (10 if x1 < SIZE[1] else 0) :] = 9
        tiles.append(TilePrediction(window, Prediction.empty(part)))
    assert (merge_label_maps(tiles, SIZE).semantic == truth).all()


def test_files_and_arrays_are_seen_tile_by_tile(tmp_path: Path) -> None:
    boxes = spots(tmp_path / "a.png", 300, 500)
    spots(tmp_path / "b.png", 90, 100)
    adapter: Any = BrightSpots(InputSpec(pad_value=(0, 0, 0)))
    fabric = Fabric(accelerator="cpu", devices=1)
    tiles = Tiling(TileSettings(size=128, overlap=0.25, whole=False), 500)
    samples = read_unlabelled([tmp_path / "a.png", tmp_path / "b.png"])
    found = {
        sample.path.name: one
        for sample, one in predict_files(adapter, samples, fabric=fabric, image_size=128, tiles=tiles)
    }
    assert len(boxes) > 40
    seen = sorted_rows(found["a.png"].boxes, found["a.png"].labels)
    assert np.allclose(seen, sorted_rows(boxes, np.zeros(len(boxes))))
    array = np.asarray(Image.open(tmp_path / "a.png"))
    same = predict_array(adapter, array, fabric=fabric, image_size=128, tiles=tiles)
    assert np.allclose(same.boxes, found["a.png"].boxes)
    plain = dict(predict_files(adapter, samples[1:], fabric=fabric, image_size=128))
    assert (plain[samples[1]].boxes == found["b.png"].boxes).all(), "an image no larger than a tile is seen whole"


def test_every_process_has_all_tiles_of_its_images(make_images: Callable[..., Any]) -> None:
    images = make_images()
    shares = [images.of_share(rank, 2) for rank in range(2)]
    assert [{tile.image for tile in share.tiles} for share in shares] == [{0, 2}, {1}]
    assert sum(len(share.tiles) for share in shares) == len(images.tiles)
    order = [images.tiles[number].image for group in images.groups(3) for number in group]
    assert order == sorted(order), "the tiles of an image come after each other"
    assert all(len({images.draw(number)[0].shape for number in group}) == 1 for group in images.groups(3))


@pytest.fixture
def make_images(tmp_path: Path) -> Callable[..., TileImages]:
    def make() -> TileImages:
        for name in "abc":
            Image.new("RGB", (150, 90)).save(tmp_path / f"{name}.png")
        samples = read_unlabelled([tmp_path / f"{name}.png" for name in "abc"])
        return TileImages(samples, InputSpec(), 64, TileSettings(size=64), most=100)

    return make


def test_the_whole_image_is_the_input_that_it_is_without_tiles(make_images: Callable[..., TileImages]) -> None:
    images = make_images()
    number = max(index for index, tile in enumerate(images.tiles) if tile.image == 0)
    assert images.tiles[number].window is None
    plain = EvalImages(images.samples, images.input_spec, 64).draw(0)
    assert (images.draw(number)[0] == plain[0]).all()


LARGE = """
import resource, sys
sys.path.insert(0, sys.argv[2])
import numpy as np
from pathlib import Path
from PIL import Image
from lightning_fabric import Fabric
from bright_spots import BrightSpots, spots
from tlvision.data.settings import TileSettings
from tlvision.formats.coco import read_unlabelled
from tlvision.inference.predict import Tiling, predict_files
from tlvision.types import InputSpec

path = Path(sys.argv[1])
boxes = spots(path, 6000, 8000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
adapter = BrightSpots(InputSpec(pad_value=(0, 0, 0)))
tiles = Tiling(TileSettings(size=640, whole=False), 20_000)
samples = read_unlabelled([path])
fabric = Fabric(accelerator="cpu", devices=1)
((_, found),) = predict_files(adapter, samples, fabric=fabric, image_size=640, tiles=tiles)
assert abs(len(found) - len(boxes)) <= 0.01 * len(boxes), (len(found), len(boxes))
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="peak memory is read from resource")
def test_an_image_of_8000_by_6000_pixels_needs_little_memory(tmp_path: Path, repository: Path) -> None:
    (tmp_path / "large.py").write_text(LARGE)
    done = run_script(tmp_path / "large.py", str(tmp_path / "large.png"), str(repository / "tests" / "helpers"))
    assert done.returncode == 0, done.stderr
    grown = int(done.stdout.split("grown")[1])
    assert grown < 600, f"{grown} MiB beyond the picture itself"
