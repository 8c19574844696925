"""On the rendered pair, whose shift is known, what should help does, by more than the spread of five seeds.

The target's plates are enamelled instead of brushed (texture), hazy (fog), and under a warmer lamp (colour); objects
are the same. A method helps when the mean of its five seeds is above the best of the five of source-only. That test can
fail: the same objective with a weight of 0 does not pass it (below). `feature_distance` is not here: it keeps what
weights know of other data, and these know the source alone. Of what `mean_teacher` gives the segmenter most is batch
norm's statistics, which its passes move whatever its weight is; docs/benchmarks.md has the numbers.
"""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

import tlvision
from tlvision.data.inspection import render_inspection

SEEDS = range(5)
CLASSES = ["screw", "missing_screw", "scratch", "rust"]  # those that both domains have
METRIC = {"tiny_detector": ("bbox", "AP"), "tiny_segmenter": ("semantic", "mean_class_iou")}
QUIET = {"log": {"progress": "none", "tensorboard": "off"}}

MIDDLE = ["stride 8", "stride 16"]
SURE = {"threshold": 0.4, "burn_in": 0.2, "ramp": 0.1}
SURER = SURE | {"threshold": 0.8}
HELPFUL: dict[str, tuple[dict[str, Any], ...]] = {
    "tiny_detector": (
        {"mean_teacher": SURE},
        {"masked_consistency": SURE},
        {"mmd": {"taps": MIDDLE}},
        {"fourier_style": {"beta": 0.02, "probability": 0.5}},
        {"colour_statistics": {"probability": 0.5}},
        {"adabn": {}},
    ),
    "tiny_segmenter": (
        {"mean_teacher": SURER},
        {"masked_consistency": SURER},
        {"class_mix": SURER},
        {"entropy": {"weight": 0.05}},
        # The shift is one of colour and texture, and so of the first features.
        {"domain_adversarial": {"taps": ["finest"], "weight": 0.1}},
        {"coral": {"taps": MIDDLE, "weight": 5.0}},
        {"adabn": {}},
    ),
}
ON_IMAGES = {"fourier_style", "colour_statistics", "adabn"}


class Pair:
    """The two domains in a folder, and what runs on them give."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        render_inspection(folder / "source", domain="source", train=80, val=1, seed=5)
        render_inspection(folder / "target", domain="target", train=80, val=60, seed=6)
        self.source_only = cache(lambda arch: self.scores(arch, {}))
        self._pretrained = cache(self._pretrain)

    def scores(self, arch: str, item: dict[str, Any], train: str = "source") -> list[float]:
        """Train with the hook `item` from weights that know the source; the target's AP or class IoU of each seed."""
        hook = next(iter(item), None)
        found = []
        for seed in SEEDS:
            config = self._config(arch, f"{hook or train}-{seed}", seed)
            config["model"]["weights"] = self._pretrained(arch)
            config["data"]["train"] = self._data(train, "train")
            if hook is not None:
                config["hooks"].append(deepcopy(item))
                config["data"]["batch"]["unlabelled"] = 0 if hook in ON_IMAGES else 8
            kind, key = METRIC[arch]
            found.append(float(tlvision.train(config).metrics[kind][key]))
        return found

    def _data(self, domain: str, split: str) -> dict[str, str]:
        folder = self.folder / domain
        return {"json": str(folder / f"{split}.json"), "images": str(folder / "images")}

    def _config(self, arch: str, name: str, seed: int) -> dict[str, Any]:
        return {
            "model": {"plugin": "toy", "arch": arch, "weights": "none"},
            "data": {
                "classes": CLASSES,
                "train": self._data("source", "train"),
                "val": self._data("target", "val"),
                "target": self._data("target", "train"),
                "image_size": 192,
                "canvas": "fitted",
                "batch": {"labelled": 8, "unlabelled": 0},
                "augment": {"mosaic": 0, "scale": 0.3, "flip_vertical": 0.5, "strong": 0.5},
            },
            "train": {"epochs": 6, "lr": 5e-4, "schedule": "cosine", "device": "cpu", "seed": seed},
            "hooks": [{"ema": {"decay": 0.95, "warmup": 20}}, QUIET],
            "evaluate": {"every": 100, "select": "target/" + "/".join(METRIC[arch])},
            "run": {"out": str(self.folder / arch / name)},
        }

    def _pretrain(self, arch: str) -> str:
        if arch == "tiny_detector":
            return str(Path(__file__).parents[2] / "configs" / "weights" / "inspection_source.safetensors")
        config = self._config(arch, "pretrained", 0)
        config["train"] |= {"epochs": 20, "lr": 2e-3}
        return str(tlvision.train(config).run / "checkpoints" / "best" / "model.safetensors")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("planted"))


def helps(scores: list[float], without: list[float]) -> bool:
    return mean(scores) > max(without)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arch", "item"),
    [pytest.param(arch, item, id=f"{arch}-{next(iter(item))}") for arch, items in HELPFUL.items() for item in items],
)
def test_what_should_help_does(pair: Pair, arch: str, item: dict[str, Any]) -> None:
    without, scores = pair.source_only(arch), pair.scores(arch, item)
    print(arch, item, [round(score, 4) for score in scores], "source only", [round(score, 4) for score in without])
    assert helps(scores, without)


@pytest.mark.slow
@pytest.mark.xfail(strict=True, reason="no gain beyond the spread on the segmenter; coral has one there")
def test_mmd_helps_the_segmenter_too(pair: Pair) -> None:
    scores = pair.scores("tiny_segmenter", {"mmd": {"taps": MIDDLE}})
    assert helps(scores, pair.source_only("tiny_segmenter"))


@pytest.mark.slow
@pytest.mark.parametrize("arch", METRIC)
def test_the_gap_is_there(pair: Pair, arch: str) -> None:
    without, oracle = pair.source_only(arch), pair.scores(arch, {}, train="target")
    print(arch, "oracle", [round(score, 4) for score in oracle])
    assert min(oracle) > max(without) + 0.1


@pytest.mark.slow
@pytest.mark.parametrize(
    "item",
    [
        {"mmd": {"taps": MIDDLE, "weight": 0.0}},
        {"entropy": {"weight": 0.0}},
        pytest.param(
            {"mean_teacher": SURER | {"weight": 0.0}},
            marks=pytest.mark.xfail(strict=True, reason="the student's passes move batch norm's statistics"),
        ),
    ],
    ids=("mmd", "entropy", "mean_teacher"),
)
def test_with_a_weight_of_0_it_does_not_and_the_test_above_would_say_so(pair: Pair, item: dict[str, Any]) -> None:
    without, scores = pair.source_only("tiny_segmenter"), pair.scores("tiny_segmenter", item)
    print(item, [round(score, 4) for score in scores])
    assert not helps(scores, without)
