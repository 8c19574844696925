"""Parameters that earlier versions kept in another hook: named in an error, and read in finished runs."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

import tlvision
from tlvision.config.load import load_config
from tlvision.config.renamed import upgrade
from tlvision.types import InputError


def test_a_moved_parameter_is_named_with_its_new_place() -> None:
    hooks = [{"mean_teacher": {"at_most": 1, "burn_in": 0.2, "weigt": 1}}, {"ema": {"ramp": 0}}]
    with pytest.raises(InputError) as caught:
        load_config({"model": {}, "hooks": hooks})
    message = str(caught.value)
    assert "mean_teacher.at_most: unknown key. Set it as hooks.pseudo_labels.max_pseudo_label_ratio." in message
    assert "mean_teacher.burn_in: unknown key. Set it as hooks.pseudo_labels.burn_in." in message
    assert "mean_teacher.weigt: unknown key. Did you mean 'weight'?" in message
    assert "hooks[1].ema.ramp: unknown key" in message
    assert message.count("pseudo_labels") == 2


def test_hooks_of_an_earlier_version_become_one_source_of_pseudo_labels() -> None:
    old: list[Any] = [
        "ema",
        {"mean_teacher": {"threshold": 0.6, "at_most": 1, "weight": 2.0}},
        {"class_mix": {}},
        {"masked_consistency": {"threshold": 0.9, "ratio": 0.7, "burn_in": 0.3}},
    ]
    assert upgrade(old) == [
        {"ema": {}},
        {"pseudo_labels": {"max_pseudo_label_ratio": 1, "threshold": 0.6}},
        {"mean_teacher": {"weight": 2.0}},
        {"class_mix": {"threshold": 0.9}},
        {"masked_consistency": {"ratio": 0.7, "threshold": 0.9}},
    ]
    new = [{"pseudo_labels": {}}, {"mean_teacher": {"threshold": 0.5}}]
    assert upgrade(new) == new
    assert upgrade([{"ema": {}}, 3]) == [{"ema": {}}, 3]


def test_a_finished_run_of_an_earlier_version_is_used_and_not_resumed(small_run: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(small_run, tmp_path / "run"))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["hooks"] += [{"ema": {}}, {"mean_teacher": {"threshold": 0.6, "burn_in": 0.3, "at_most": 1}}]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    model = tlvision.load(run)
    assert not model.adapter.module.training
    assert [hook.name for hook in model.config.hooks] == ["log", "ema", "pseudo_labels", "mean_teacher"]
    with pytest.raises(InputError, match=r"mean_teacher.burn_in: unknown key. Set it as hooks.pseudo_labels.burn_in"):
        tlvision.train(None, resume=run)
