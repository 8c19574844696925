"""The baselines of a comparison are built from what its methods share."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from adaptation import ALL, EMA, LABELS, QUIET, TEACHER, write
from tlvision.config.load import load_config
from tlvision.config.presets import KINDS as KINDS_OF_PRESETS
from tlvision.config.presets import presets
from tlvision.config.schema import Config
from tlvision.experiment.baselines import make_arms, uses_target
from tlvision.hooks.registry import BUILT_IN
from tlvision.types import InputError


def test_what_uses_the_target_is_known_of_every_hook() -> None:
    using = {name for name in BUILT_IN if uses_target(name)}
    assert {"mean_teacher", "masked_consistency", "class_mix"} <= using
    assert not using & {"ema", "freeze", "l2_sp", "layerwise_lr", "feature_distance", "log"}


def hooks_of(config: Config) -> Any:
    return config.model_dump(mode="json")["hooks"]


def test_the_arms_differ_in_what_uses_the_target_alone(values: dict[str, Any], tmp_path: Path) -> None:
    arms = make_arms([write(values, tmp_path / "mt.yaml")], ["train.epochs=6"], ALL)
    assert [(arm.name, arm.kind) for arm in arms] == [
        ("zero_shot", "zero_shot"), ("source_only", "source_only"), ("mt", "method"), ("oracle", "oracle"),
    ]  # fmt: skip
    plain, method, oracle = (arm.config for arm in arms[1:])
    assert hooks_of(method) == [EMA, {"freeze": {"groups": ["stem"]}}, LABELS, TEACHER, QUIET]
    assert hooks_of(plain) == hooks_of(oracle) == [EMA, {"freeze": {"groups": ["stem"]}}, QUIET]
    assert plain.data.batch.unlabelled == 0
    assert plain.train == method.train
    assert plain.data.train == method.data.train
    assert plain.data.target == method.data.target, "so that a checkpoint can be chosen the same way"
    assert oracle.data.train == method.data.oracle
    assert oracle.data.target is None
    assert oracle.train.epochs == 6  # as many images, so as many steps


def test_what_sets_methods_apart_is_not_in_source_only(values: dict[str, Any], tmp_path: Path) -> None:
    other = deepcopy(values)
    other["hooks"] = [EMA, LABELS, TEACHER, QUIET]
    paths = [write(values, tmp_path / "frozen.yaml"), write(other, tmp_path / "whole.yaml")]
    for order in (paths, paths[::-1]):
        plain, oracle = (arm.config for arm in make_arms(order, (), ("source_only", "oracle")))
        assert hooks_of(plain) == hooks_of(oracle) == [EMA, QUIET]
        assert plain.data.batch.unlabelled == 0
    keeps = deepcopy(values)
    keeps["hooks"] = [EMA, {"freeze": {"groups": ["stem"]}}, QUIET]
    keeps["data"]["batch"] = {"labelled": 4}
    kept = write(keeps, tmp_path / "keeps.yaml")
    with pytest.raises(InputError, match="'keeps' uses no target data, so it equals the source-only baseline"):
        make_arms([kept], (), ALL)
    assert hooks_of(make_arms([kept, paths[1]], (), ("source_only",))[0].config) == [EMA, QUIET]
    written_out = deepcopy(other)  # a default that is written out makes no other hook
    written_out["hooks"] = [EMA, {"l2_sp": {}}, LABELS, TEACHER, QUIET]
    other["hooks"] = [EMA, {"l2_sp": {"alpha": 0.1}}, LABELS, {"mean_teacher": {"weight": 0.5}}, QUIET]
    paths = [write(each, tmp_path / f"{n}.yaml") for n, each in enumerate((written_out, other))]
    assert hooks_of(make_arms(paths, (), ("source_only",))[0].config) == [EMA, {"l2_sp": {}}, QUIET]


def test_the_methods_of_a_family_are_comparable() -> None:
    """What all have in common, without what uses the target, is the family."""
    by_kind = {kind: [name for name, preset in presets().items() if preset.kind == kind] for kind in KINDS_OF_PRESETS}
    assert len(by_kind["families"]) >= 5
    assert len(by_kind["methods"]) >= 10
    for family in by_kind["families"]:
        sources = [family, *(f"{family}+{method}" for method in by_kind["methods"])]
        data = "two_domains_label_maps" if family in {"smp", "mmseg"} else "two_domains"
        arms = make_arms(sources, (), ("source_only", "method"), [data])
        assert [arm.name for arm in arms] == ["source_only", family, *by_kind["methods"]]
        assert arms[0].config == arms[1].config == load_config(family, extra=[data])


def test_the_oracle_takes_as_many_steps_whatever_it_has(values: dict[str, Any], tmp_path: Path) -> None:
    half = json.loads(Path(values["data"]["oracle"]["json"]).read_text())
    half["images"] = half["images"][:6]
    kept = {image["id"] for image in half["images"]}
    half["annotations"] = [row for row in half["annotations"] if row["image_id"] in kept]
    (tmp_path / "half.json").write_text(json.dumps(half))
    values["data"]["oracle"]["json"] = str(tmp_path / "half.json")
    values["data"]["batch"]["labelled"] = 3
    arms = make_arms([write(values, tmp_path / "mt.yaml")], ["train.epochs=6", "evaluate.every=3"], ("oracle",))
    assert arms[0].config.train.epochs == 12
    assert arms[0].config.evaluate.every == 6


def test_the_oracle_counts_accumulated_batches_and_processes(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """12 training images, 6 of the oracle, 16 images a step: one step an epoch for both, so as many epochs."""
    rows = json.loads(Path(values["data"]["oracle"]["json"]).read_text())
    kept = {image["id"] for image in rows["images"][:6]}
    rows["images"] = rows["images"][:6]
    rows["annotations"] = [row for row in rows["annotations"] if row["image_id"] in kept]
    (tmp_path / "half.json").write_text(json.dumps(rows))
    values["data"]["oracle"]["json"] = str(tmp_path / "half.json")
    path, epochs = write(values, tmp_path / "mt.yaml"), "train.epochs=6"

    def oracle_epochs(*overrides: str) -> int:
        return make_arms([path], [epochs, *overrides], ("oracle",))[0].config.train.epochs

    assert oracle_epochs() == 9  # 3 steps an epoch beside 2 (6 / 4, rounded)
    assert oracle_epochs("train.accumulate=4") == 6
    assert oracle_epochs("train.accumulate=2") == 12  # 2 steps beside 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert oracle_epochs() == 6


def test_configs_that_are_not_comparable_are_refused(values: dict[str, Any], tmp_path: Path) -> None:
    first = write(values, tmp_path / "one.yaml")

    def other(**changes: Any) -> list[Path]:
        changed = deepcopy(values)
        for key, value in changes.items():
            changed[key] |= value
        return [first, write(changed, tmp_path / "two.yaml")]

    with pytest.raises(InputError, match="'two' has another 'train' than 'one'"):
        make_arms(other(train={"lr": 1e-2}), (), ALL)
    with pytest.raises(InputError, match="'two' has other 'data' than 'one'"):
        make_arms(other(data={"image_size": 64}), (), ALL)
    with pytest.raises(InputError, match="'two' has other 'data' than 'one'"):  # or a method would be its augmentation
        make_arms(other(data={"augment": {"mosaic": 0, "strong": 1}}), (), ALL)
    with pytest.raises(InputError, match=r"another data\.batch\.labelled"):
        make_arms(other(data={"batch": {"labelled": 2, "unlabelled": 4}}), (), ALL)
    with pytest.raises(InputError, match="the name 'oracle' is taken"):
        make_arms([write(values, tmp_path / "oracle.yaml")], (), ALL)
    with pytest.raises(InputError, match="the name 'one' is taken"):
        make_arms([first, first], (), ALL)
    assert len(make_arms(other(data={"batch": {"labelled": 4}}), (), ("method",))) == 2
    del values["data"]["val"]
    with pytest.raises(InputError, match=r"data\.val is missing"):
        make_arms([write(values, first)], (), ALL)
