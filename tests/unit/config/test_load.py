from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny import TOY
from tlvision.config.load import dump_config, load_config
from tlvision.engine.build import build_hooks
from tlvision.types import InputError


def minimal() -> dict[str, Any]:
    return {
        "model": dict(TOY),
        "data": {
            "train": {"json": "train.json", "images": "images"},
            "val": {"json": "val.json", "images": "images"},
        },
        "train": {"epochs": 3},
        "run": {"out": "runs/x"},
    }


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def test_every_config_of_the_project_is_valid(repository: Path) -> None:
    configs = sorted((repository / "configs").rglob("*.yaml"))
    assert len(configs) >= 2
    for path in configs:
        load_config(path)


def test_the_resolved_config_reads_back_as_the_same(tmp_path: Path) -> None:
    config = load_config({**minimal(), "hooks": ["ema", {"freeze": {"roles": ["stem"]}}]})
    again = load_config(write(tmp_path / "c.yaml", dump_config(config)))
    assert again == config
    assert again.train.optimizer == "adamw"
    assert "batch:" in dump_config(config)


def test_all_errors_are_listed_at_once_with_path_and_nearest_key(tmp_path: Path) -> None:
    values = minimal()
    values["train"] = {"epochs": 0, "lrr": 1, "optimizer": "adam"}
    values["data"]["batch"] = {"labeled": 4}
    values["hooks"] = [{"freez": {}}, {"freeze": {"thruogh": "stem"}}, {"layerwise_lr": {"decay": 2}}]
    del values["model"]["arch"]
    with pytest.raises(InputError) as caught:
        load_config(write(tmp_path / "bad.yaml", values))
    text = str(caught.value)
    assert "bad.yaml: 8 errors" in text
    for expected in (
        "model.arch: missing",
        "train.epochs: input should be greater than or equal to 1, got 0",
        "train.lrr: unknown key. Did you mean 'lr'?",
        "train.optimizer: input should be 'adamw' or 'sgd', got 'adam'",
        "data.batch.labeled: unknown key. Did you mean 'labelled'?",
        "hooks[0]: unknown hook 'freez'. Did you mean 'freeze'?",
        "hooks[1].freeze.thruogh: unknown key. Did you mean 'through'?",
        "hooks[2].layerwise_lr.decay: input should be less than or equal to 1, got 2",
    ):
        assert expected in text, f"{expected!r} is not in:\n{text}"


@pytest.mark.parametrize("key", ["data.channels", "model.in_channels"])
def test_a_number_of_channels_is_refused_in_a_sentence_of_its_own(key: str) -> None:
    with pytest.raises(InputError, match=f"{key}: models see three channels, red, green and blue; remove it"):
        load_config(minimal(), [f"{key}=4"])


def test_set_overrides_with_yaml_values() -> None:
    config = load_config(
        minimal(),
        ["train.lr=2e-4", "hooks=[{freeze: {roles: [backbone]}}]", "data.batch.labelled=4", "data.workers=auto"],
    )
    assert config.train.lr == 2e-4
    assert config.model_dump()["hooks"] == [{"freeze": {"roles": ["backbone"]}}]
    assert config.data.batch.labelled == 4


@pytest.mark.parametrize("override", ["train.lr", "=3", "train..lr=3", "train.epochs.x=3"])
def test_a_malformed_override_is_an_error(override: str) -> None:
    with pytest.raises(InputError, match="--set"):
        load_config(minimal(), [override])


def test_the_cache_is_given_in_mebibytes_or_left_to_the_machine() -> None:
    assert load_config(minimal()).data.cache_bytes is None
    assert load_config(minimal(), ["data.cache=3"]).data.cache_bytes == 3 * 2**20
    with pytest.raises(InputError, match=r"data\.cache: expected 'auto' or a number from 0 on, got -1"):
        load_config(minimal(), ["data.cache=-1"])


def test_one_level_of_base_is_merged_and_two_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", minimal())
    config = load_config(write(tmp_path / "run.yaml", {"base": "base.yaml", "train": {"lr": 0.5}}))
    assert (config.train.epochs, config.train.lr) == (3, 0.5)
    write(tmp_path / "base.yaml", {**minimal(), "base": "other.yaml"})
    with pytest.raises(InputError, match="a base cannot have a base of its own"):
        load_config(tmp_path / "run.yaml")


def test_numbers_in_scientific_notation_and_duplicate_keys(tmp_path: Path) -> None:
    text = yaml.safe_dump(minimal()).replace("epochs: 3", "epochs: 3\n  lr: 1e-3")
    assert load_config(write(tmp_path / "a.yaml", text)).train.lr == 1e-3
    with pytest.raises(InputError, match="'epochs' is given twice"):
        load_config(write(tmp_path / "b.yaml", text.replace("lr: 1e-3", "epochs: 4")))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a: [1", "not YAML"), ("- 1", "expected a mapping"), ("a: 1", "a: unknown key")],
)
def test_a_file_that_is_no_config_is_one_clear_error(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        load_config(write(tmp_path / "c.yaml", text))
    with pytest.raises(InputError, match="no config file"):
        load_config(tmp_path / "absent.yaml")


def test_hooks_that_every_run_has_come_last_unless_named() -> None:
    config = load_config({**minimal(), "hooks": [{"log": {"every": 7}}, "ema"]})
    hooks = build_hooks(config)
    assert [hook.key() for hook in hooks] == ["log", "ema", "checkpoint"]
    assert hooks[0].every == 7  # type: ignore[attr-defined]
