"""Freezing what the weights do not have is said before training, with the groups and the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import tlvision
from tlvision.config.load import load_config
from tlvision.engine.build import build_run
from tlvision.plugin import BuildSpec, WeightReport
from tlvision_toy.plugin import ToyPlugin


@pytest.fixture
def backbone_only(tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The toy detector, whose backbone alone counts as pretrained."""
    build = ToyPlugin.build

    def with_report(self: ToyPlugin, spec: BuildSpec) -> tuple[Any, WeightReport]:
        adapter, _ = build(self, spec)
        keys = list(adapter.module.state_dict())
        loaded = tuple(key for key in keys if key.startswith("backbone."))
        mismatched = ("neck.laterals.0.weight: (1,) here, (2,) there",)
        missing = tuple(key for key in keys if key not in loaded and not key.startswith("neck.laterals.0.weight"))
        return adapter, WeightReport(source="imagenet", loaded=loaded, missing=missing, mismatched=mismatched)

    monkeypatch.setattr(ToyPlugin, "build", with_report)
    return tiny_config


def notes_of(config: dict[str, Any], *hooks: Any) -> list[str]:
    parts = build_run(load_config(config | {"hooks": [*config["hooks"], *hooks]}))
    return [note for note in parts.notes if "randomly initialised" in note]


@pytest.mark.parametrize("hook", ["linear_probe", {"freeze": {"through": "neck"}}])
def test_a_random_neck_that_is_frozen_for_good_is_named(backbone_only: dict[str, Any], hook: Any) -> None:
    (note,) = notes_of(backbone_only, hook)
    assert "for the whole run: neck (" in note
    assert "backbone.stage" not in note
    assert "The weights 'imagenet' do not have these tensors" in note
    assert "freeze: {roles: [stem, backbone]}" in note
    assert notes_of(backbone_only, {"freeze": {"roles": ["stem", "backbone"]}}) == [], "the remedy"


def test_a_random_neck_that_is_freed_later_is_named(backbone_only: dict[str, Any]) -> None:
    backbone_only["train"]["epochs"] = 9
    (note,) = notes_of(backbone_only, {"gradual_unfreeze": {"every": 1}})
    assert "at the start of the run: neck (" in note


def test_nothing_is_said_of_pretrained_groups(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    assert len(notes_of(tiny_config, "linear_probe")) == 1, "weights: none"
    run = tlvision.train(tiny_config).run
    weights = tmp_path / "whole.safetensors"
    save_file(load_file(str(run / "checkpoints" / "last" / "model.safetensors")), str(weights))
    tiny_config["model"]["weights"] = str(weights)
    assert notes_of(tiny_config, "linear_probe") == []
