"""Hooks and models that do not go together are refused before anything is read, with what would do."""

from __future__ import annotations

from typing import Any

import pytest

import tlvision
from tlvision.engine.compatibility import check_pairing
from tlvision.hooks import ObjectiveHook
from tlvision.plugin import HasDenseLogits, HasInstanceFeatures, HasTrainingProgress, get_plugin
from tlvision.tasks import get_task
from tlvision.types import InputError


class NeedsBoxes(ObjectiveHook):
    needs = (HasInstanceFeatures,)


class NeedsPixels(ObjectiveHook):
    needs = (HasDenseLogits,)


class NeedsProgress(ObjectiveHook):
    needs = (HasTrainingProgress,)


@pytest.mark.parametrize(
    ("hook", "plugin", "task", "expected"),
    [
        (
            NeedsBoxes,
            "smp",
            "semantic",
            r"\(impossible: a segmenter finds no objects\); models of mmdet, torchvision do$",
        ),
        (
            NeedsPixels,
            "yolo",
            "detect",
            r"plugin 'yolo' does not offer; models of mmseg, smp, torchvision, toy, transformers do for label maps$",
        ),
        (NeedsPixels, "toy", "detect", "needs HasDenseLogits"),
        (NeedsProgress, "mmdet", "detect", r"\(not written\); models of yolo do$"),
    ],
)
def test_what_a_plugin_cannot_do_is_said_with_those_that_can(
    hook: type[ObjectiveHook], plugin: str, task: str, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        check_pairing([hook()], get_plugin(plugin), get_task(task))


def test_what_a_plugin_may_do_passes() -> None:
    check_pairing([NeedsPixels()], get_plugin("toy"), get_task("semantic"))
    check_pairing([NeedsBoxes()], get_plugin("mmdet"), get_task("detect"))
    # It does not say; the model itself is asked later.
    check_pairing([NeedsBoxes()], get_plugin("yolo"), get_task("detect"))


def test_nothing_is_read_before(tiny_config: dict[str, Any]) -> None:
    tiny_config["data"] |= {"target": {"images": "nowhere"}, "batch": {"labelled": 4, "unlabelled": 4}}
    tiny_config["data"]["train"]["json"] = "nowhere.json"
    tiny_config["hooks"].append("class_mix")
    with pytest.raises(InputError, match="'class_mix' needs HasDenseLogits"):
        tlvision.train(tiny_config)


def test_what_a_hook_needs_is_asked_before_it_prepares(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Eager(NeedsPixels):
        def prepare(self, adapter: Any) -> None:
            raise AssertionError("prepared for a model that cannot serve it")

    monkeypatch.setattr("tlvision.engine.build.build_hooks", lambda config: [Eager()])
    monkeypatch.setattr("tlvision.engine.build.check_pairing", lambda *_: None)
    with pytest.raises(InputError, match="needs HasDenseLogits"):
        tlvision.train(tiny_config)


def test_a_tap_that_the_model_does_not_have_is_named_with_those_that_it_has(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Curious(ObjectiveHook):
        def prepare(self, adapter: Any) -> None:
            self.taps = ("c9",)

    monkeypatch.setattr("tlvision.engine.build.build_hooks", lambda config: [Curious()])
    with pytest.raises(InputError, match=r"needs the tap 'c9'; this model has stage1, "):
        tlvision.train(tiny_config)
