"""The plain loop: what its parts feed to upstream's model, and a run from the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tlvision.types import IGNORE_INDEX, InputError, InputSpec

PLAIN = InputSpec(multiple_of=32)


@pytest.fixture
def smp(parity: Callable[[str], Any]) -> Any:
    pytest.importorskip("segmentation_models_pytorch")
    return parity("smp")


def folders(dataset: Path) -> dict[str, Path]:
    images, masks = dataset / "images", dataset / "masks"
    classes = dataset / "classes.txt"
    return {
        "train_images": images,
        "train_labels": masks,
        "val_images": images,
        "val_labels": masks,
        "classes": classes,
    }


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_crops_keep_pixels_and_labels_together(
    smp: Any, parity: Callable[[str], Any], dataset: Path, monkeypatch: pytest.MonkeyPatch, flip: float
) -> None:
    monkeypatch.setattr(parity("crops"), "FLIP", flip)
    torch.manual_seed(0)
    pairs = smp.find_pairs(dataset / "images", dataset / "masks")
    crops = smp.Crops(pairs, PLAIN, 60, 32)
    seen = set()
    for _ in range(4):
        for at in range(len(crops)):
            pixels, labels = crops[at]
            assert pixels.shape == (3, 32, 32)
            assert (labels.shape, labels.dtype) == ((32, 32), torch.int64)
            bright = (pixels[0] > 0.5).long()
            known = labels != IGNORE_INDEX
            assert bright[known].equal(labels[known])
            seen.add((int(labels[0, 0] == IGNORE_INDEX), int(labels[-1].sum())))
            assert not labels[-1].diff().lt(0).any() if flip == 0 else not labels[-1].diff().gt(0).any()
    assert len(seen) > 8, "crops are cut at random"


def test_crops_larger_than_the_image_are_unknown_beyond_it(smp: Any, dataset: Path) -> None:
    pairs = smp.find_pairs(dataset / "images", dataset / "masks")
    pixels, labels = smp.Crops(pairs, PLAIN, 30, 32)[0]
    assert pixels.shape == (3, 32, 32)
    assert (labels[20:] == IGNORE_INDEX).all()
    assert (pixels[:, 20:] == 0).all()
    assert set(labels.unique().tolist()) == {0, 1, IGNORE_INDEX}


def test_predictions_are_whole_images_in_their_own_size(smp: Any, dataset: Path, tmp_path: Path) -> None:
    class Brightness(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: set[tuple[int, ...]] = set()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.sizes.add(tuple(x.shape))
            return torch.cat([0.4 - x[:, :1], x[:, :1] - 0.4], 1)

    model, pairs = Brightness(), smp.find_pairs(dataset / "images", dataset / "masks")
    for size in (60, 120):
        smp.predict(model, pairs, PLAIN, torch.device("cpu"), image_size=size, folder=tmp_path / str(size))
        for pair in pairs:
            found = np.asarray(Image.open(tmp_path / str(size) / f"{pair.image.stem}.png"))
            truth = np.asarray(Image.open(pair.mask))
            assert found.shape == (40, 60)
            assert (found[1:] == truth[1:]).mean() > 0.98
    assert model.sizes == {(1, 3, 64, 64), (1, 3, 96, 128)}


@pytest.mark.slow  # four seconds, of a benchmark
def test_the_run_is_the_recipe(
    smp: Any,
    parity: Callable[[str], Any],
    job: Callable[..., Any],
    dataset: Path,
    *,
    monkeypatch: pytest.MonkeyPatch,
    adamw_rates: list[float],
) -> None:
    monkeypatch.setattr(smp, "WORKERS", 1)
    files = parity("tasks").Files(**folders(dataset))
    wanted = job("smp", files, arch="unet/mobilenet_v2", epochs=5, image_size=60, crop=32, loss="dice")
    result = parity("runner").run(wanted)
    assert len(adamw_rates) == 10, "two steps an epoch"
    assert max(adamw_rates) == pytest.approx(1e-3)
    assert adamw_rates[0] < 1e-4 > adamw_rates[-1]
    folder = Path(result["predictions"])
    assert sorted(path.name for path in folder.iterdir()) == [f"{number}.png" for number in range(8)]
    assert np.asarray(Image.open(folder / "0.png")).shape == (40, 60)
    assert result["epochs"] == 5
    assert result["total_seconds"] > result["train_seconds"] > 0
    assert result["peak_memory_bytes"] > 1e8


def test_what_cannot_be_used(smp: Any, dataset: Path, tmp_path: Path) -> None:
    (dataset / "masks" / "3.png").unlink()
    with pytest.raises(InputError, match=r"3\.png' has no label map"):
        smp.find_pairs(dataset / "images", dataset / "masks")
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="no images"):
        smp.find_pairs(tmp_path / "none", dataset / "masks")
    with pytest.raises(InputError, match="expected a loss of cross_entropy, dice, got 'mse'"):
        smp.make_loss("mse")


@pytest.mark.slow
def test_from_the_command_line(dataset: Path, tmp_path: Path, upstream_side: Callable[..., str]) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    images, masks = dataset / "images", dataset / "masks"
    result = json.loads(
        upstream_side(
            *("smp", "--train-images", images, "--train-masks", masks, "--val-images", images, "--val-masks", masks),
            *("--classes", dataset / "classes.txt", "--weights=none", "--arch=unet/mobilenet_v2", "--epochs=60"),
            *("--image-size=120", "--crop=64", "--batch=8", "--seed=0", "--out", tmp_path / "out"),
        )
    )
    found = [np.asarray(Image.open(path)) for path in sorted(Path(result["predictions"]).iterdir())]
    truth = [np.asarray(Image.open(path)) for path in sorted((dataset / "masks").iterdir())]
    right = [(one == other)[other != IGNORE_INDEX].mean() for one, other in zip(found, truth, strict=True)]
    assert np.mean(right) > 0.9
