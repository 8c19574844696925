"""`tlvision explain` on every model family: each method that fits the family gives a map, and the others a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tlvision
from families import FAMILIES, outline, task_of
from tlvision.analysis.saliency.explain import ExplainSettings, explain_images
from tlvision.types import InputError

IMAGES = ("001.png", "002.png")


@pytest.mark.parametrize(
    "family", [pytest.param(name, marks=[] if name == "toy" else pytest.mark.slow) for name in FAMILIES]
)
def test_explain_on_every_family(
    family: str,
    tiny_config: dict[str, Any],
    tiny_dataset: Path,
    tmp_path: Path,
    digests_of: Callable[[Path], dict[str, str]],
) -> None:
    plugin, arch = FAMILIES[family]
    tiny_config["model"] = {"plugin": plugin, "arch": arch, "weights": "none"}
    tiny_config["data"]["batch"]["labelled"] = 6
    dense = task_of(family) == "semantic"
    if not dense:
        tiny_config["model"]["score_floor"] = 0.0
    if task_of(family) != "detect":
        outline(tiny_config["data"], tmp_path)
    tiny_config["train"] = {"epochs": 1, "lr": 1e-4, "device": "cpu"}
    run = tlvision.train(tiny_config).run
    # A model this young is sure of nothing.
    (run / "thresholds.json").write_text(json.dumps({"default": 0.0, "per_class": {}}))
    before = digests_of(run)
    images = [tiny_dataset / "images" / name for name in IMAGES]
    default = explain_images(run, images, tmp_path / "default")
    method = json.loads((tmp_path / "default" / "explain.json").read_text())["method"]
    assert method == ("grad_cam" if dense else "hires_cam")
    for row in default:
        check(row, tmp_path / "default")
        assert ("sanity_correlation" in row) == ("picture" in row)
    found = []
    for other in ("eigen_cam", "grad_cam", "hires_cam", "d_rise"):
        settings = ExplainSettings(method=other, sanity=False, masks=10)
        if other == "d_rise" and dense:
            with pytest.raises(InputError, match="predicts label maps"):
                explain_images(run, images, tmp_path / other, settings)
            continue
        rows = explain_images(run, images[:1], tmp_path / other, settings)
        found.append(check(rows[0], tmp_path / other))
    assert any(found)
    assert digests_of(run) == before


def check(row: dict[str, Any], out: Path) -> bool:
    """Return whether there is a map; a model this young may have only evidence against an object."""
    if "picture" not in row:
        assert "has no heat" in row["sentence"]
        return False
    assert (out / row["picture"]).is_file()
    assert 0 <= row["heat_inside"] <= 1
    return True
