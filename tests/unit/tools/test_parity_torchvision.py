"""The reference recipe: what its parts feed to upstream's model, and a run from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from subsets import first_images
from tlvision.formats.coco.read import read_coco
from tlvision.types import InputError, Sample, Target

ARCH = "ssdlite320_mobilenet_v3_large"
# pycocotools and numpy 2, when a mask is decoded.
OLD_NUMPY = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture
def recipe(parity: Callable[[str], Any]) -> Any:
    pytest.importorskip("pycocotools")
    return parity("torchvision")


@OLD_NUMPY
def test_pictures_are_flipped_with_their_boxes_and_masks(
    recipe: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from PIL import Image

    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[10:20, 5:25] = (255, 51, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    box = np.array([[5, 10, 25, 20], [0, 0, 60, 40]], np.float32)
    outline = np.array([[5, 10], [25, 10], [25, 20], [5, 20]], np.float32)
    target = Target(boxes=box, labels=np.array([2, 0]), crowd=np.array([False, True]))
    sample = Sample(
        image_id=1, path=tmp_path / "a.png", width=60, height=40, target=target, segments=((outline,), (outline,))
    )
    for chance, x0, x1 in ((0.0, 5, 25), (1.0, 35, 55)):
        monkeypatch.setattr(recipe, "FLIP", chance)
        image, given = recipe.Pictures([sample], first=1, flip=True, with_masks=True)[0]
        assert image.shape == (3, 40, 60)
        assert given["boxes"].tolist() == [[x0, 10, x1, 20]], "the crowd region is left out"
        assert given["labels"].tolist() == [3]
        assert image[:, 15, (x0 + x1) // 2].tolist() == pytest.approx([1.0, 0.2, 0.0])
        assert given["masks"].shape == (1, 40, 60)
        assert given["masks"][0, 10:20, x0:x1].all()
        assert given["masks"].sum() == 200


@pytest.mark.slow  # six seconds, of a benchmark
def test_the_schedule_is_upstreams(
    recipe: Any,
    parity: Callable[[str], Any],
    job: Callable[..., Any],
    tiny_dataset: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rates: list[float] = []

    def step(self: Any, closure: Any = None) -> None:
        rates.append(self.param_groups[0]["lr"])

    monkeypatch.setattr(torch.optim.SGD, "step", step)
    monkeypatch.setattr(recipe, "WORKERS", 0)
    monkeypatch.setattr(recipe, "predict", lambda *_: [])
    result = parity("runner").run(job("torchvision", files(parity, tiny_dataset), arch=ARCH, epochs=13))
    steps = len(rates) // 13
    assert steps == 2, "11 of the 12 images have objects, and the last batch is not whole"
    assert rates[:2] == pytest.approx([0.005 / 1000, 0.005])
    assert rates[2 : 8 * steps] == pytest.approx([0.005] * 14)
    assert rates[8 * steps : 11 * steps] == pytest.approx([0.0005] * 6)
    assert rates[11 * steps :] == pytest.approx([0.00005] * 4)
    assert result["ap"] == [0.0] * 13


def files(parity: Callable[[str], Any], folder: Path) -> Any:
    images = folder / "images"
    return parity("tasks").Files(images, folder / "train.json", images, folder / "val.json")


def test_too_few_images_for_a_batch_are_an_error(
    recipe: Any, parity: Callable[[str], Any], job: Callable[..., Any], tiny_dataset: Path
) -> None:
    with pytest.raises(InputError, match="11 training images have objects, fewer than one batch of 16"):
        parity("runner").run(job("torchvision", files(parity, tiny_dataset), arch=ARCH, batch=16))


def test_results_are_in_the_ids_of_the_json(recipe: Any) -> None:
    found = {"boxes": torch.tensor([[1.0, 2, 4, 8], [0, 0, 1, 1]]), "scores": torch.tensor([0.5, 0.25]),
             "labels": torch.tensor([2, 1])}  # fmt: skip
    rows = list(recipe._results(7, found, {1: 90}, 1))
    assert rows == [{"image_id": 7, "category_id": 90, "bbox": [1.0, 2.0, 3.0, 6.0], "score": 0.5}]


@OLD_NUMPY
def test_training_batches_have_masks(
    recipe: Any, tiny_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recipe, "WORKERS", 0)
    content = json.loads((tiny_dataset / "train.json").read_text(encoding="utf-8"))
    for row in content["annotations"]:
        x, y, w, h = row["bbox"]
        row["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    path = tmp_path / "polygons.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    train = read_coco(path, tiny_dataset / "images")
    batches = recipe._training_batches(train, 4, 1, with_masks=True)
    _, targets = next(iter(batches))
    assert len(targets) == 4
    for target in targets:
        assert target["masks"].shape == (len(target["boxes"]), 64, 96)
        filled = target["masks"].flatten(1).sum(1).float()
        boxes = target["boxes"]
        torch.testing.assert_close(filled, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))


@pytest.mark.shared
@pytest.mark.slow
def test_the_recipe_from_the_command_line(shared: Path, tmp_path: Path, upstream_side: Callable[..., str]) -> None:
    small = first_images(shared / "data" / "bccd" / "val.json", 8, tmp_path / "small.json")
    images = str(shared / "data" / "bccd" / "images")
    weights = str(shared / "weights" / "mobilenet_v2-imagenet-from-int8.pth")
    command = ["--train-json", small, "--train-images", images, "--val-json", small, "--val-images", images]
    command += ["--weights", weights, "--arch", "fasterrcnn_mobilenet_v2_fpn", "--epochs", "1", "--image-size", "160"]
    result = json.loads(upstream_side("torchvision", *command, "--batch", 2, "--out", tmp_path))
    assert 0 < result["train_seconds"] < result["total_seconds"]
    assert len(result["ap"]) == 1
    rows = json.loads(Path(result["predictions"]).read_text(encoding="utf-8"))
    assert rows
    known = {image["id"] for image in json.loads(small.read_text(encoding="utf-8"))["images"]}
    assert {row["image_id"] for row in rows} <= known
    assert {row["category_id"] for row in rows} <= {1, 2, 3}
