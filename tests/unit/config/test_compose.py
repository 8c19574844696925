"""Configs are composed: bases in order, hooks by name, values tuned for a hook, the file, --set."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny import TOY
from tlvision.cli.main import main
from tlvision.config.compose import compose
from tlvision.config.load import load_config, load_with_origins
from tlvision.config.presets import KINDS, presets
from tlvision.engine.build import build_run
from tlvision.engine.resume import read_run_config
from tlvision.hooks.registry import hook_class
from tlvision.types import InputError

BY_KIND = {kind: [name for name, preset in presets().items() if preset.kind == kind] for kind in KINDS}
assert all(BY_KIND.values())
FAMILY = {
    "model": dict(TOY),
    "data": {"train": {"json": "t.json", "images": "i"}, "val": {"json": "v.json", "images": "i"}},
    "train": {"epochs": 3, "lr": 0.5},
    "hooks": [{"freeze": {"norms": ["stem"]}}, {"ema": {"decay": 0.9}}],
    "run": {"out": "runs/x"},
    "when": {"masked_consistency": {"threshold": 0.7, "unlabelled": 3}},
}
METHOD = {
    "data": {"batch": {"unlabelled": 8}},
    "hooks": [{"masked_consistency": {"threshold": 0.5, "patch": 16}}, {"freeze": {"roles": ["stem"]}}],
}
OTHER = {"data": {"batch": {"unlabelled": 5}}, "hooks": [{"entropy": {"weight": 0.5}}]}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name, values in (("family", FAMILY), ("method", METHOD), ("other", OTHER)):
        write(tmp_path / f"{name}.yaml", values)
    return tmp_path


def write(path: Path, values: dict[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(values, sort_keys=False))
    return path


def hooks_of(values: Any) -> dict[str, Any]:
    return {name: options for item in values["hooks"] for name, options in item.items()}


def test_the_strength_of_every_layer(files: Path) -> None:
    """Method < the family's `when` < the file < --set; hooks keep the order in which they come up."""
    path = write(
        files / "run.yaml",
        {"base": ["family", "method"], "train": {"lr": 0.25},
         "hooks": [{"ema": {"warmup": 7}}, {"masked_consistency": {"ratio": 0.6}}]},
    )  # fmt: skip
    values = compose(path).values
    assert values["train"] == {"epochs": 3, "lr": 0.25}
    assert hooks_of(values) == {
        "freeze": {"norms": ["stem"], "roles": ["stem"]},
        "ema": {"decay": 0.9, "warmup": 7},
        "masked_consistency": {"threshold": 0.7, "patch": 16, "ratio": 0.6},
    }
    assert [next(iter(item)) for item in values["hooks"]] == ["freeze", "ema", "masked_consistency"]
    config = load_config(path, ["hooks.masked_consistency.threshold=0.9", "train.lr=1"])
    assert (config.train.lr, hooks_of(config.model_dump())["masked_consistency"]["threshold"]) == (1.0, 0.9)
    write(path, {"base": ["family", "method"], "hooks": [{"masked_consistency": {"threshold": 0.3}}]})
    assert hooks_of(compose(path).values)["masked_consistency"]["threshold"] == 0.3
    with pytest.raises(InputError, match=r"--set hooks.emma.decay: the config has no hook 'emma'. Did you mean 'ema'"):
        load_config(path, ["hooks.emma.decay=0.5"])
    with pytest.raises(InputError, match=r"--set hooks.ema: expected a parameter of the hook"):
        load_config(path, ["hooks.ema=1"])


def test_the_number_of_unlabelled_images_is_the_largest_that_a_method_needs(files: Path) -> None:
    def number(*names: str, own: dict[str, Any] | None = None) -> Any:
        return compose(write(files / "run.yaml", {"base": list(names), **(own or {})})).values["data"].get("batch")

    assert number("family") is None
    assert number("family", "method") == {"unlabelled": 3}, "as the family has it for that hook"
    assert number("family", "method", "other") == number("family", "other", "method") == {"unlabelled": 5}
    assert number("family", "method", own={"data": {"batch": {"unlabelled": 1}}}) == {"unlabelled": 1}
    assert number("family", "method", own={"hooks": [{"masked_consistency": None}]}) == {"unlabelled": 0}, (
        "nothing is left"
    )
    assert number("family", "method", "other", own={"hooks": [{"masked_consistency": None}]}) == {"unlabelled": 5}
    both = {"data": {"batch": {"unlabelled": 8}}, "hooks": ["masked_consistency", "entropy"]}
    write(files / "both.yaml", both)
    assert number("family", "both") == {"unlabelled": 8}, "only one of the two is tuned"


def test_the_command_line_adds_bases(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(files)
    run = write(files / "run.yaml", {"base": ["family", "method", "other"]})
    expected = compose(run).values
    assert compose("family+method+other").values == expected
    assert compose("family", ["method", "other.yaml"]).values == expected
    assert compose({"base": ["family", "method"]}, ["other"]).values == expected
    own = write(files / "own.yaml", {"base": "family", "hooks": [{"masked_consistency": {"threshold": 0.4}}]})
    assert hooks_of(compose(own, ["method"]).values)["masked_consistency"]["threshold"] == 0.4, (
        "the file stays the strongest"
    )


def test_a_file_beside_the_config_comes_before_a_preset_of_its_name(files: Path) -> None:
    path = write(files / "run.yaml", {"base": ["family", "adabn"]})
    assert "adabn" in hooks_of(compose(path).values)
    write(files / "adabn.yaml", OTHER)
    assert "entropy" in hooks_of(compose(path).values)
    (files / "l2_sp").mkdir()  # a folder hides no preset
    assert "l2_sp" in hooks_of(compose(write(path, {"base": ["family", "l2_sp"]})).values)


def test_null_removes_a_hook(files: Path) -> None:
    path = write(files / "run.yaml", {"base": "family", "hooks": [{"ema": None}]})
    assert list(hooks_of(compose(path).values)) == ["freeze"]
    write(path, {"base": "family", "hooks": [{"adabn": None}]})
    with pytest.raises(InputError, match=r"run.yaml: hooks: 'adabn: null' removes a hook that no base has"):
        compose(path)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"base": "famly"}, r"no config file '.*famly', and no preset of that name"),
        ({"base": "mean_techer"}, r"no preset of that name. Did you mean 'mean_teacher'"),
        ({"base": "absent.yaml"}, r"no config file '.*absent.yaml'$"),
        ({"base": 3}, "'base' must be the name of a config or a list of names, got 3"),
        ({"base": "nested"}, "a base cannot have a base of its own. Name both"),
        ({"base": "family", "when": [1]}, r"run.yaml: 'when' must map names of hooks to parameters"),
        ({"base": "family", "when": {"meen_teacher": {}}}, r"when.meen_teacher \(.*run.yaml\): unknown hook"),
        ({"base": "family", "when": {"adabn": {"x": 1}}}, r"when.adabn \(.*run.yaml\).x: unknown key"),
        ({"base": "family", "when": {"mmd": {"unlabelled": 0}}}, r"when.mmd .*unlabelled: expected a number of images"),
        ({"base": "family", "hooks": ["ema", {"ema": {}}]}, "hooks: 'ema' is given twice"),
        ({"base": "family", "hooks": [1]}, r"hooks\[0\]: expected one hook in each item, .* got 1"),
    ],
)
def test_what_cannot_be_composed_is_named(files: Path, values: dict[str, Any], words: str) -> None:
    write(files / "nested.yaml", {**FAMILY, "base": "family"})
    with pytest.raises(InputError, match=words):
        load_config(write(files / "run.yaml", values))


def test_origins(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(files / "run.yaml", {"base": ["family", "method"], "evaluate": {"every": 2}})
    _, origins = load_with_origins(path, ["train.lr=1"])
    name = {key: Path(value.split(" ")[0]).stem for key, value in origins.items()}
    assert name["train.epochs"] == "family"
    assert name["hooks.masked_consistency.patch"] == "method"
    assert origins["hooks.masked_consistency.threshold"].endswith("family.yaml (when masked_consistency)")
    assert name["evaluate.every"] == "run"
    assert origins["train.lr"] == "--set"
    assert main(["show", str(path), "--origin", "--set", "train.lr=1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    by_key = {line[0]: line[1:] for line in lines}
    assert by_key["train.lr"] == ["1.0", "--set"]
    assert by_key["train.optimizer"] == ["adamw", "default"]
    assert by_key["data.batch.unlabelled"][0] == "3"
    _, origins = load_with_origins(path, ["hooks=[ema]", "data.batch.unlabelled=0"])
    assert {origins[key] for key in origins if key.startswith("hooks")} == {"--set"}, "nothing of the files is left"


@pytest.mark.parametrize(("family", "method"), list(product(BY_KIND["families"], BY_KIND["methods"])))
def test_every_family_composes_with_every_method(family: str, method: str) -> None:
    """What a method says holds, unless the family has a value for that hook."""
    config = load_of(family, method)
    found, said = hooks_of(config.model_dump()), hooks_of(compose(method).values)
    tuned = compose(family).when[0][1]
    for hook, options in said.items():
        for key, value in options.items():
            assert found[hook][key] == tuned.get(hook, {}).get(key, value)
    needs = any(hook_class(hook).uses_unlabelled for hook in said)
    assert (config.data.batch.unlabelled > 0) == needs


def load_of(family: str, *methods: str) -> Any:
    data = "two_domains_label_maps" if family in {"smp", "mmseg"} else "two_domains"
    return load_config("+".join([family, data, *methods]))


def test_relative_paths_are_beside_the_config_or_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("configs", "here", "run"):
        (tmp_path / folder).mkdir()
    values = {**FAMILY, "run": {"out": "t.json"}}
    write(tmp_path / "configs" / "c.yaml", values)
    (tmp_path / "configs" / "t.json").touch()
    monkeypatch.chdir(tmp_path / "here")
    config = load_config("../configs/c.yaml")
    assert (config.data.train.json_, config.data.train.images) == ("../configs/t.json", "i")
    assert config.run.out == "t.json", "what is written is in the current folder"
    assert load_config("../configs/c.yaml", ["data.train.json=t.json"]).data.train.json_ == "t.json"
    write(tmp_path / "run" / "config.yaml", values)
    (tmp_path / "run" / "t.json").touch()
    assert read_run_config(tmp_path / "run").data.train.json_ == "t.json", "a run's folder holds files of its own"


def test_the_quick_start_has_its_weights_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_config("quickstart")
    assert Path(config.model.weights).is_file()
    assert config.data.train.json_ == "data/inspection_target/train.json"
    with pytest.raises(InputError, match=r"weights: no file 'gone.pt'"):
        build_run(load_config("quickstart", ["model.weights=gone.pt"]))
    assert not (tmp_path / "data").exists(), "nothing was rendered for that"


def test_presets_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for names in BY_KIND.values() for name in names)
    assert main(["presets", "mean_teacher"]) == 0
    assert yaml.safe_load(capsys.readouterr().out)["hooks"] == [
        {"pseudo_labels": {"burn_in": 0.2, "ramp": 0.1}},
        "mean_teacher",
    ]
    assert main(["presets", "mean_teachr"]) == 2
    assert all(preset.purpose() for preset in presets().values())
    assert len({preset.path.stem for preset in presets().values()}) == sum(map(len, BY_KIND.values()))
