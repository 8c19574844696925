"""Config values as users write them: each is accepted with a known meaning, or refused in one sentence."""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tiny import TOY
from tlvision.config.load import dump_config, load_config
from tlvision.types import InputError


def minimal() -> dict[str, Any]:
    return {
        "model": dict(TOY),
        "data": {"train": {"json": "t.json", "images": "i"}, "val": {"json": "v.json", "images": "i"}},
        "train": {"epochs": 3},
        "run": {"out": "runs/x"},
    }


def value_at(config: Any, path: str) -> Any:
    for key in path.split("."):
        config = config[key] if isinstance(config, dict) else getattr(config, key)
    return config


ACCEPTED: list[tuple[str, Any]] = [
    ("train.epochs=1", 1),
    ("train.lr=1", 1.0),
    ("train.lr=1e-3", 1e-3),
    ("train.lr=1E-3", 1e-3),
    ("train.lr=.5", 0.5),
    ("train.lr=5.", 5.0),
    ("train.lr=+2e+0", 2.0),
    ("train.seed=4294967295", 2**32 - 1),
    ("train.seed=0", 0),
    ("train.verify=off", "off"),
    ("train.verify='off'", "off"),
    ("train.verify=every_step", "every_step"),
    ("train.precision=bf16", "bf16"),
    ("train.warmup=0", 0.0),
    ("train.accumulate=1000000", 1000000),
    ("data.image_size=16384", 16384),
    ("data.image_size=32", 32),
    ("data.augment.crop=16384", 16384),
    ("data.augment.mosaic=1", 1.0),
    ("data.workers=auto", "auto"),
    ("data.workers=256", 256),
    ("data.cache=0", 0),
    ("data.unlabelled=ignore", "ignore"),
    ("data.classes=[yes, no]", ["yes", "no"]),
    ("data.classes=[on, off, y, n]", ["on", "off", "y", "n"]),
    ("data.classes=['1', '2']", ["1", "2"]),
    ("data.classes=['scratch [deep]']", ["scratch [deep]"]),
    ("data.classes=classes.txt", "classes.txt"),
    ("run.out=2026-11-28", "2026-11-28"),
    ("run.out=12:30:00", "12:30:00"),
    ("run.out=runs/ü", "runs/ü"),
    ("run.out='1e3'", "1e3"),
    ("run.out='010'", "010"),
    ("run.out='true'", "true"),
    ("run.out='null'", "null"),
    ("run.out=no", "no"),
    ("run.out=1_000", "1_000"),
    ("run.out='<<'", "<<"),
    ("run.out='='", "="),
    ("evaluate.boundary=true", True),
    ("evaluate.boundary=False", False),
    ("evaluate.window=0", 0),
    ("model.rename={car: vehicle}", {"car": "vehicle"}),
    ("model.rename={on: off}", {"on": "off"}),
    ("hooks=[]", []),
    ("hooks=[ema]", [{"ema": {}}]),
    ("hooks=[{ema: {decay: 0}}]", [{"ema": {"decay": 0}}]),
    ("hooks=[{log: {tensorboard: off}}]", [{"log": {"tensorboard": "off"}}]),
    ("hooks=[{log: {tensorboard: on, progress: none}}]", [{"log": {"tensorboard": "on", "progress": "none"}}]),
]

REFUSED: list[tuple[str, str]] = [
    # Strict types.
    ("train.epochs=true", "train.epochs: input should be a valid integer, got True"),
    ("train.epochs=1.0", "train.epochs: input should be a valid integer, got 1.0"),
    ("train.epochs='3'", "Write the number without quotes: 3"),
    ("train.epochs=three", "train.epochs: input should be a valid integer, got 'three'"),
    ("train.epochs=1_000", "train.epochs: input should be a valid integer"),
    ("train.epochs=010", "train.epochs: input should be a valid integer, got '010'"),
    ("train.epochs=0x10", "train.epochs: input should be a valid integer"),
    ("train.epochs=1:30", "train.epochs: input should be a valid integer, got '1:30'"),
    ("train.epochs=2026-11-28", "train.epochs: input should be a valid integer"),
    ("train.epochs=", "train.epochs: input should be a valid integer, got None"),
    ("train.epochs=[3]", "train.epochs: input should be a valid integer, got [3]"),
    ("train.epochs={a: 3}", "train.epochs: input should be a valid integer"),
    ("train.lr=true", "train.lr: input should be a valid number, got True"),
    ("train.lr='1e-3'", "Write the number without quotes: 1e-3"),
    ("train.lr=0,001", "train.lr: input should be a valid number, got '0,001'"),
    ("train.lr=1e-3f", "train.lr"),
    ("train.lr=~", "train.lr: input should be a valid number, got None"),
    ("train.seed=1.0", "train.seed: input should be a valid integer, got 1.0"),
    ("train.seed=true", "train.seed: input should be a valid integer, got True"),
    ("train.verify=false", "train.verify: input should be 'first_steps', 'every_step' or 'off', got False"),
    ("train.verify=no", "train.verify: input should be 'first_steps', 'every_step' or 'off', got 'no'"),
    ("train.optimizer=1", "train.optimizer: input should be 'adamw' or 'sgd', got 1"),
    ("train.device=CPU", "train.device: input should be 'auto', 'cpu' or 'cuda', got 'CPU'"),
    ("data.image_size='64'", "Write the number without quotes: 64"),
    ("data.image_size=[64, 64]", "data.image_size: input should be a valid integer"),
    ("data.image_size=640.0", "data.image_size: input should be a valid integer, got 640.0"),
    ("data.image_size=false", "data.image_size: input should be a valid integer, got False"),
    ("data.augment.flip=true", "data.augment.flip: input should be a valid number, got True"),
    (
        "data.augment.flip=yes",
        "data.augment.flip: expected a probability, or one of none, horizontal, vertical, both, got 'yes'",
    ),
    ("data.augment.crop=64.0", "data.augment.crop: input should be a valid integer"),
    ("data.augment=none", "data.augment: input should be"),
    ("data.augment=", "data.augment: input should be"),
    ("data.augment.strong_view=true", "data.augment.strong_view: input should be"),
    ("data.augment.strong_view.hue='0.1'", "Write the number without quotes: 0.1"),
    ("data.batch=4", "data.batch: input should be"),
    ("data.batch.labelled=true", "data.batch.labelled: input should be a valid integer, got True"),
    ("data.batch.labelled=4.5", "data.batch.labelled: input should be a valid integer"),
    ("data.workers=true", "data.workers"),
    ("data.workers=two", "data.workers"),
    ("data.workers=2.0", "data.workers"),
    ("data.cache=1.5", "data.cache"),
    ("data.classes=3", "data.classes"),
    ("data.classes=[1, 2]", "data.classes[0]: input should be a valid string, got 1"),
    ("data.classes=[true]", "data.classes[0]: input should be a valid string, got True"),
    ("data.classes=[]", "data.classes"),
    ("data.classes=''", "data.classes"),
    ("data.ignore_value='255'", "Write the number without quotes: 255"),
    ("data.train=train.json", "data.train: input should be"),
    ("data.train.json=5", "data.train.json: input should be a valid string, got 5"),
    ("data.train.images=true", "data.train.images: input should be a valid string, got True"),
    ("data.val=", "data: expected val"),
    ("data.target=images", "data.target: input should be"),
    ("model=yolo", "model: input should be"),
    ("model.plugin=1", "model.plugin: input should be a valid string, got 1"),
    ("model.weights=", "model.weights: input should be a valid string, got None"),
    ("model.rename=[a]", "model.rename: input should be a valid dictionary"),
    ("model.rename={a: 1}", "model.rename.a"),
    ("model.rename={1: a}", "model.rename"),
    ("model.rename={a: []}", "model.rename.a"),
    ("model.options=3", "model.options: input should be a valid dictionary"),
    ("evaluate.boundary=yes", "Write true or false; yes, no, on and off are texts"),
    ("evaluate.boundary=1", "evaluate.boundary: input should be a valid boolean, got 1"),
    ("evaluate.boundary='true'", "evaluate.boundary: input should be a valid boolean, got 'true'"),
    ("evaluate.select=3", "evaluate.select: input should be a valid string, got 3"),
    ("evaluate=3", "evaluate: input should be"),
    ("run=", "run: input should be"),
    ("hooks=ema", "hooks: expected a list of hooks, got 'ema'"),
    ("hooks={ema: {}}", "hooks: expected a list of hooks"),
    ("hooks=", "hooks: expected a list of hooks, got None"),
    ("hooks=[3]", "hooks[0]: expected one hook in each item"),
    ("hooks=[{ema: {}, freeze: {}}]", "hooks[0]: expected one hook in each item"),
    ("hooks=[[ema]]", "hooks[0]: expected one hook in each item"),
    ("hooks=[{1: {}}]", "unknown hook '1'"),
    ("hooks=[{ema: 3}]", "hooks"),
    ("hooks=[{ema: }]", "expected one hook in each item, such as '- ema'"),
    ("hooks=[{ema: {decay: '0.9'}}]", "Write the number without quotes: 0.9"),
    ("hooks=[{ema: {decay: true}}]", "hooks[0].ema.decay: input should be a valid number, got True"),
    ("hooks=[{log: {every: 1.0}}]", "hooks[0].log.every: input should be a valid integer, got 1.0"),
    ("hooks=[{log: {tensorboard: false}}]", "hooks[0].log.tensorboard"),
    ("hooks=[{freeze: {roles: stem}}]", "hooks[0].freeze.roles"),
    ("hooks=[{lr_groups: {groups: 3}}]", "hooks[0].lr_groups"),
    ("data.render.seed=0.0", "data.render.seed: input should be a valid integer"),
    # Ranges.
    ("train.epochs=0", "train.epochs: input should be greater than or equal to 1, got 0"),
    ("train.epochs=-1", "train.epochs"),
    ("train.epochs=1000001", "train.epochs: input should be less than or equal to 1000000"),
    ("train.lr=0", "train.lr: input should be greater than 0, got 0"),
    ("train.lr=-1", "train.lr"),
    ("train.lr=.inf", "train.lr: input should be a finite number, got inf"),
    ("train.lr=.nan", "train.lr: input should be a finite number, got nan"),
    ("train.lr=1e999", "train.lr: input should be a finite number, got inf"),
    ("train.clip=.inf", "train.clip: input should be a finite number"),
    ("train.weight_decay=.inf", "train.weight_decay: input should be a finite number"),
    ("train.warmup=1", "train.warmup: input should be less than 1, got 1"),
    ("train.final_lr=1.01", "train.final_lr"),
    ("train.momentum=1", "train.momentum"),
    ("train.accumulate=0", "train.accumulate"),
    ("train.accumulate=1000001", "train.accumulate"),
    ("train.seed=-1", "train.seed"),
    ("train.seed=4294967296", "train.seed: input should be less than or equal to 4294967295"),
    ("data.render={out: x, seed: 4294967296}", "data.render.seed: input should be less than or equal to 4294967295"),
    ("data.render={out: x, train: 1000000000}", "data.render.train: input should be less than or equal to 100000"),
    ("data.image_size=1000000", "data.image_size: input should be less than or equal to 16384, got 1000000"),
    ("data.image_size=16385", "data.image_size"),
    ("data.image_size=31", "data.image_size"),
    ("data.image_size=-64", "data.image_size"),
    ("data.augment.crop=1000000", "data.augment.crop: input should be less than or equal to 16384, got 1000000"),
    ("data.augment.crop=-1", "data.augment.crop"),
    ("data.augment.rotate=181", "data.augment.rotate"),
    ("data.augment.scale=.nan", "data.augment.scale: input should be a finite number"),
    ("data.augment.strong_view.erase_count=1000000000", "data.augment.strong_view.erase_count"),
    ("data.batch.labelled=0", "data.batch.labelled"),
    ("data.batch.labelled=65537", "data.batch.labelled"),
    ("data.batch.unlabelled=-1", "data.batch.unlabelled"),
    ("data.workers=257", "data.workers: expected 'auto' or a number from 0 to 256, got 257"),
    ("data.workers=-1", "data.workers: expected 'auto' or a number from 0 on, got -1"),
    ("data.ignore_value=256", "data.ignore_value"),
    ("evaluate.window=1000000", "evaluate.window"),
    ("evaluate.batch=0", "evaluate.batch"),
    ("evaluate.every=0", "evaluate.every"),
    ("hooks=[{ema: {decay: .nan}}]", "hooks[0].ema.decay: input should be a finite number"),
    ("hooks=[{ema: {decay: 1}}]", "hooks[0].ema.decay: input should be less than 1"),
    # Paths that no file system has.
    ("run.out=''", "run.out: expected a path, but it is empty"),
    ("run.out='  '", "run.out: expected a path, but it is empty"),
    ('run.out="a\\0b"', "run.out: expected a path, but it holds a NUL character"),
    ("run.out=" + "x" * 300, "run.out: expected a path, but it is too long (300 bytes)"),
    ("run.out=" + "x/" * 3000, "run.out: expected a path, but it is too long (6000 bytes)"),
    ('data.train.images="a\\0b"', "data.train.images: expected a path, but it holds a NUL character"),
    ("data.train.json=''", "data.train.json: expected a path, but it is empty"),
    ("data.target={images: ''}", "data.target.images: expected a path, but it is empty"),
    # Numbers and texts without measure.
    ("train.epochs=" + "9" * 5000, "not YAML"),
    ("train.epochs=" + "9" * 4000, "train.epochs"),
    ("train.lr=" + "9" * 400, "train.lr"),
    ("train.lr=0." + "0" * 5000 + "1", "train.lr"),
    ("model." + "x" * 100_000 + ".lr=3", "unknown key"),
    ("model.arch=" + "x" * 100_000, "model.arch: string should have at most 200 characters"),
    ("model.options=" + "[" * 200 + "]" * 200, "nested too deeply"),
    ("model.options=" + "[" * 5_000, "nested too deeply"),
    ("model.options=" + "{a: " * 60 + "1" + "}" * 60, "nested too deeply"),
    ("model.options." + "a." * 60 + "b=1", "expected key=value with a dotted key"),
    ("data.classes=[" + "a, " * 10_001 + "a]", "more than 10,000 values"),
    ("x" * 5000 + "=1", "unknown key"),
    # Not YAML, or YAML that means more than a value.
    ("train.epochs=!!int x", "not YAML"),
    ("train.epochs=!!float x", "not YAML"),
    ("train.epochs=!!bool x", "not YAML"),
    ("train.epochs=!!int ''", "not YAML"),
    ("run.out=!!timestamp x", "not YAML"),
    ("run.out=!!binary '%'", "run.out"),
    ("run.out=!!python/object/apply:os.system ['true']", "not YAML (could not determine a constructor"),
    ("run.out=!!set {a, b}", "run.out"),
    ("data.classes=!!omap [a: b]", "data.classes"),
    ("model.rename={[a]: b}", "a key of the mapping is a list or a mapping"),
    ("model.rename={a: b, a: c}", "the key 'a' is given twice"),
    ("model.rename={<<: {a: b}}", "model.rename"),
    ("model.rename={<<: 3}", "not YAML"),
    ("train.epochs=[1", "not YAML"),
    ("train.epochs=*a", "not YAML"),
    ("train.epochs=&a [*a]", "a part of the config contains itself"),
    ("train.epochs=@", "not YAML"),
    ("train.epochs=%", "not YAML"),
    ("train.epochs=\t", "train.epochs"),
    ("train.epochs=3\n--- 4", "not YAML"),
    ("train.epochs=\x01", "not YAML"),
    # Not an override.
    ("train.epochs", "expected key=value with a dotted key"),
    ("=3", "expected key=value with a dotted key"),
    (".=3", "expected key=value with a dotted key"),
    ("train..epochs=3", "expected key=value with a dotted key"),
    ("train.epochs.more=3", "'train.epochs' is a value, not a section"),
    ("hooks.0.ema=3", "hooks"),
    ("Train.epochs=3", "Train: unknown key. Did you mean 'train'?"),
    ("train.épochs=3", "unknown key. Did you mean 'epochs'?"),
]
assert len(ACCEPTED) >= 40
assert len(REFUSED) >= 120


def short(row: Any) -> str:
    return row[:48] if isinstance(row, str) else ""


@pytest.mark.parametrize(("override", "meaning"), ACCEPTED, ids=[short(row[0]) for row in ACCEPTED])
def test_a_good_value_means_what_it_says_and_is_written_so_that_it_reads_back(
    override: str, meaning: Any, tmp_path: Path
) -> None:
    config = load_config(minimal(), [override])
    key = override.partition("=")[0]
    found = [{hook.name: hook.given} for hook in config.hooks] if key == "hooks" else value_at(config, key)
    assert found == meaning
    assert type(found) is type(meaning)
    path = tmp_path / "c.yaml"
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config


def test_what_is_written_means_the_same_to_other_yaml_readers() -> None:
    config = load_config(minimal(), ["data.classes=['off', 'yes', '1e3', '010', '1:30', '2026-11-28', '~', '']"])
    assert yaml.safe_load(dump_config(config))["data"]["classes"] == config.data.classes


def test_a_character_that_json_escapes_by_two_is_that_character(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text(json.dumps(minimal() | {"data": minimal()["data"] | {"classes": ["\U0001f600", "né"]}}))
    assert "\\ud83d\\ude00" in path.read_text(), "as json writes it"
    config = load_config(path)
    assert config.data.classes == ["\U0001f600", "né"]
    path.write_text(dump_config(config), encoding="utf-8")
    assert load_config(path) == config
    with pytest.raises(InputError, match=r"line 1: half of a surrogate pair in .*ud83d"):
        load_config(minimal(), ['data.classes=["\\ud83d"]'])


def test_a_path_that_utf_8_cannot_hold_is_refused() -> None:
    for character in ("\ud83d", "\udcff"):  # half of a pair, and how Python shows a byte that is no text
        with pytest.raises(InputError, match=r"run\.out: expected a path, but it is not text in UTF-8, got 'runs/"):
            load_config(minimal() | {"run": {"out": f"runs/{character}"}})


@pytest.mark.parametrize(("override", "expected"), REFUSED, ids=[short(row[0]) for row in REFUSED])
def test_a_bad_value_is_refused_in_a_short_text(override: str, expected: str) -> None:
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        load_config(minimal(), [override])
    assert expected in str(caught.value)
    assert len(str(caught.value)) < 1000
    assert time.perf_counter() - start < 20


def bomb() -> str:
    levels = "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in range(1, 30))
    return f"l0: &l0 [x, x, x, x, x, x, x, x, x]\n{levels}"


FILES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "expected a mapping with the keys"),
    ("only a comment", b"# nothing\n", "expected a mapping with the keys"),
    ("a list", b"- 1\n", "expected a mapping with the keys"),
    ("a text", b"train", "expected a mapping with the keys"),
    ("binary", bytes(range(256)), "not a text file in UTF-8 (byte 128 is 0x80)"),
    ("zeros", bytes(100), "not a text file (byte 0 is NUL)"),
    ("NUL in the middle", b"train: {epochs: 1}\n\0\0\0", "is NUL"),
    ("latin-1", "run: {out: größe}".encode("latin-1"), "Save it again as UTF-8"),
    ("UTF-16", "run: {out: x}".encode("utf-16"), "not a text file in UTF-8"),
    ("a picture", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "not a text file"),
    ("tabs", b"train:\n\tepochs: 3\n", "not YAML"),
    ("control characters", b"train: \x07", "not YAML"),
    ("two documents", b"a: 1\n---\nb: 2\n", "not YAML"),
    ("cut off", b"train: {epochs: 3", "not YAML"),
    ("an alias bomb", bomb().encode(), "more than 10,000 values, after aliases are expanded"),
    ("an alias of itself", b"train: &a {b: *a}\n", "not YAML"),
    ("a list within itself", b"model: &a\n- *a\n", "InputError"),
    ("deep", b"a: " + b"[" * 3000, "nested too deeply"),
    ("deep by indentation", b"".join(b" " * n + b"a:\n" for n in range(500)), "nested too deeply"),
    ("two megabytes", b"#" * (2 << 20), "Expected a config (YAML) of at most 262,144 bytes"),
    ("many keys", b"".join(b"k%d: 1\n" % n for n in range(1_000)), "and 97"),
    ("a key twice", b"train: {epochs: 1}\ntrain: {epochs: 2}\n", "the key 'train' is given twice"),
    ("keys of many types", b"1: a\n~: c\n1.5: d\n", "errors"),
    ("a base that is a number", b"base: 3\n", "'base' must be the name of a config"),
    ("a base that is absent", b"base: absent.yaml\n", "no config file"),
    ("a base that is its folder", b"base: .\n", "is a folder"),
    ("a base with a NUL", b'base: "a\\0b"\n', "no config file"),
    ("itself as base", b"base: c.yaml\n", "a base cannot have a base of its own"),
    ("a json", b'{"images": [], "annotations": []}', "images: unknown key"),
]
assert len(FILES) >= 25


@pytest.mark.parametrize(("content", "expected"), [row[1:] for row in FILES], ids=[row[0] for row in FILES])
def test_a_damaged_config_file_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    start = time.perf_counter()
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert expected in str(caught.value) or expected == "InputError"
    assert len(str(caught.value)) < 3000
    assert time.perf_counter() - start < 20


@pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes among files")
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.yaml")
    (tmp_path / "link.yaml").symlink_to("pipe.yaml")
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    cases = {"pipe.yaml": "a named pipe", "link.yaml": "a named pipe", ".": "a folder", "loop.yaml": "cannot be read"}
    for name, expected in cases.items():
        with pytest.raises(InputError, match=expected):
            load_config(tmp_path / name)
    with pytest.raises(InputError, match="not a regular file"):
        load_config("/dev/zero")
    for wrong in ("a\0b", "x" * 5000, ""):
        with pytest.raises(InputError):
            load_config(wrong)


def test_a_mapping_from_python_is_checked_as_a_file_is() -> None:
    itself: dict[str, Any] = minimal()
    itself["model"]["options"] = itself
    with pytest.raises(InputError, match="contains itself"):
        load_config(itself)
    with pytest.raises(InputError, match="expected texts such as"):
        load_config(minimal(), [3])  # type: ignore[list-item]
    for wrong in ({1: 2}, {None: {}}, {("a", "b"): 1}):
        with pytest.raises(InputError):
            load_config({**minimal(), **wrong})  # type: ignore[arg-type]
