"""What may be different when a run is resumed: one row for each change, and what has to come of it.

A row is refused (InputError with this text), recorded (goes on; the change is in the run), or harmless (ends with the
bits of the run that nobody interrupted).
"""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import tlvision
from fast import first_fast
from interrupt import interrupted
from tiny import config_of
from tlvision.engine import train as runs
from tlvision.engine.resume_keys import CANNOT_CHANGE, MAY_CHANGE
from tlvision.types import InputError

SPEC = importlib.util.spec_from_file_location("mutations", Path(__file__).with_name("mutations.py"))
assert SPEC is not None
assert SPEC.loader is not None
m = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(m)

HOOKS: list[dict[str, Any]] = [
    {"ema": {"decay": 0.9, "warmup": 4}},
    {"freeze": {"roles": ["stem"]}},
    {"log": {"progress": "none", "tensorboard": "off"}},
]
CONFIG = config_of(Path("data"), Path("run"), hooks=(*HOOKS,))
CONFIG["data"]["workers"] = 0
QUIET = {"progress": "none", "every": 1, "tensorboard": "off"}
LAST, BEST = m.LAST, "run/checkpoints/best"
SWAPPED = r"\['light', 'dark'\].* trained with \['dark', 'light'\]"
DEEP = "[" * 3_000
PARTS = (
    "model.safetensors", "optimizer.safetensors", "optimizer.json", "hook.ema.safetensors", "hook.ema.json",
    "random.0.safetensors", "random.0.json", "state.json", "classes.json", "config.yaml", "environment.json",
)  # fmt: skip


def hooks(**changes: Any) -> list[dict[str, Any]]:
    """Return the hooks of the run with other options; None takes a hook out, a new name puts one behind."""
    found = {name: options for item in HOOKS for name, options in item.items()} | changes
    return [{name: options} for name, options in found.items() if options is not None]


def set_hooks(value: list[dict[str, Any]]) -> str:
    return f"hooks={json.dumps(value)}"


EDITED = [  # key of config.yaml, new value, text of the refusal
    ("train__seed", 1, "train.seed: the run was trained with 0, config.yaml has 1"),
    ("train__lr", 0.002, "train.lr: .* --set train.lr=0.002"),
    ("train__optimizer", "sgd", "train.optimizer cannot change"),
    ("train__momentum", 0.8, "train.momentum"),
    ("train__weight_decay", 0.1, "train.weight_decay"),
    ("train__schedule", "linear", "train.schedule"),
    ("train__final_lr", 0.5, "train.final_lr"),
    ("train__warmup", 0.5, "train.warmup"),
    ("train__accumulate", 3, "train.accumulate"),
    ("train__clip", 1.0, "train.clip"),
    ("train__precision", "fp32", "train.precision"),
    ("data__image_size", 64, "data.image_size"),
    ("data__canvas", "fitted", "data.canvas"),
    ("data__batch__labelled", 6, "data.batch.labelled"),
    ("data__augment__mosaic", 0.25, "data.augment.mosaic"),
    ("data__ignore_value", 254, "data.ignore_value"),
    ("data__unlabelled", "ignore", "data.unlabelled cannot change"),
    ("data__classes", ["light", "dark"], "data.classes cannot change"),
    ("data__target", {"images": "data/images"}, "data.target"),
    ("data__source_val", {"images": "data/images", "json": "data/train.json"}, "data.source_val"),
    ("evaluate__every", 2, "evaluate.every"),
    ("evaluate__select", "bbox/AP50", "evaluate.select"),
    ("evaluate__boundary", True, "evaluate.boundary"),
    ("evaluate__batch", 2, "evaluate.batch"),
    ("evaluate__window", 64, "evaluate.window cannot change"),
    ("evaluate__max_detections", 300, "evaluate.max_detections cannot change"),
    ("model__max_detections", 50, "model.max_detections cannot change"),
    ("model__score_floor", 0.1, "model.score_floor cannot change"),
    ("model__nms_iou", 0.4, "model.nms_iou cannot change"),
    ("data__exif", "ignore", "data.exif"),
    ("data__bit_depth", 12, "data.bit_depth"),
    ("model__arch", "tiny_segmenter", "model.arch cannot change"),
    ("model__plugin", "smp", "model.plugin cannot change"),
    ("model__rename", {"dark": "light"}, "model.rename.* cannot change"),
    ("hooks", hooks(ema=None), r"hooks.ema: .*\n.*--set 'hooks="),
    ("hooks", hooks(ema={"decay": 0.5, "warmup": 4}), "hooks.ema.decay: the run was trained with 0.9"),
    ("hooks", hooks(ema={"decay": 0.9, "warmup": 5}), "hooks.ema.warmup"),
    ("hooks", hooks(freeze=None), "hooks.freeze"),
    ("hooks", hooks(freeze={"roles": ["neck"]}), "hooks.freeze"),
    ("hooks", hooks(early_stop={"patience": 3}), "hooks.early_stop"),
    ("hooks", [HOOKS[1], HOOKS[0], HOOKS[2]], "hooks: the run was trained with"),
    ("hooks", [], "hooks.ema"),
    ("train__epochs", 1, "train.epochs: 1 epochs and 4 steps are done"),
]
REFUSED = [
    *((f"edit {key} {number}", m.config(**{key: value}), (), text) for number, (key, value, text) in enumerate(EDITED)),
    # --set cannot do everything
    ("set arch", m.nothing, ["model.arch=tiny_segmenter"], "model.arch cannot change"),
    ("set classes", m.nothing, ["data.classes=[dark]"], "data.classes cannot change"),
    ("set optimizer", m.nothing, ["train.optimizer=sgd"], "train.optimizer cannot change"),
    ("set accumulate", m.nothing, ["train.accumulate=3"], "an epoch had 3 steps, now it has 1"),
    ("set batch", m.nothing, ["data.batch.labelled=12"], "an epoch had 3 steps, now it has 1"),
    ("set select", m.nothing, ["evaluate.select=bbox/AP50"], "selected by bbox/AP, the config selects by bbox/AP50"),
    ("set val", m.nothing, ["data.val.json=data/train.json"], r"train.json' has changed .* selects the best"),
    ("set epochs", m.nothing, ["train.epochs=1"], "Set train.epochs to 2 or more"),
    ("set freeze", m.nothing, [set_hooks(hooks(freeze={"roles": ["neck"]}))], "'neck.* cannot be frozen now"),
    ("one set, two edited", m.config(train__lr=0.1, train__seed=2), ["train.lr=0.1"], "train.seed"),
    # data
    ("train.json", m.document("data/train.json", m.move_a_box), (), r"train.json' has changed .* --set data.train"),
    ("val.json", m.document("data/val.json", m.move_a_box), (), r"val.json' has changed .* start a new run"),
    ("val.json and set", m.document("data/val.json", m.move_a_box), ["data.val.json=data/val.json"], "val.json' has"),
    ("class added", m.document("data/train.json", m.add_a_class), (), r"class grey.* Start a new run with"),
    ("class added and set", m.document("data/train.json", m.add_a_class), ["data.train.json=data/train.json"], "grey"),
    ("image removed", m.drop("data/images/001.png"), (), "001.png"),
    ("image changed", lambda here: shutil.copy(here / "data/images/008.png", here / "data/images/001.png"), (),
     "data.train.images: names or sizes"),
    ("val image changed", lambda here: shutil.copy(here / "data/images/008.png", here / "data/images/014.png"), (),
     "data.val.images: names or sizes"),
    ("json removed", m.drop("data/train.json"), (), "train.json"),
    # parts of the checkpoint
    *((f"no {name}", m.drop(f"{LAST}/{name}"), (), f"{name}' is missing") for name in PARTS),
    *((f"cut {name}", m.cut(f"{LAST}/{name}"), (), name) for name in PARTS),
    *((f"flip {name}", m.flip(f"{LAST}/{name}"), (), name) for name in PARTS),
    ("no manifest", m.drop(f"{LAST}/manifest.json"), (), "manifest.json' is missing"),
    ("cut manifest", m.cut(f"{LAST}/manifest.json"), (), "manifest.json' is damaged"),
    ("empty manifest", m.text(f"{LAST}/manifest.json", '{"files": {}}'), (), "manifest.json' is damaged"),
    ("odd manifest", m.text(f"{LAST}/manifest.json", '{"files": {"../x": 3}}'), (), "manifest.json' is damaged"),
    ("no best", m.drop(BEST), (), "no checkpoint at '.*best'"),
    ("flip best", m.flip(f"{BEST}/model.safetensors"), (), "best/model.safetensors' has changed"),
    ("no best metrics", m.drop(f"{BEST}/metrics.json"), (), "best/metrics.json' is missing"),
    ("cut best predictions", m.cut(f"{BEST}/predictions.json"), (), "best/predictions.json"),
    ("nan", m.tensors(LAST, m.fill(float("nan"))), (), "last/model.safetensors' is damaged: the tensor"),
    ("infinity", m.tensors(LAST, m.fill(float("inf"))), (), "is not finite"),
    ("a tensor less", m.tensors(LAST, lambda state: state.popitem()), (), "1 keys are not in it|lacks 1 key"),
    ("other names", m.tensors(LAST, lambda state: None, '["light", "dark"]'), (), r"\['light', 'dark'\]"),
    ("names not JSON", m.tensors(LAST, lambda state: None, "dark"), (), "not a (JSON )?list of (texts|names)"),
    ("names no texts", m.tensors(LAST, lambda state: None, "[1, 2]"), (), "not a (JSON )?list of (texts|names)"),
    ("hook state of an old run", m.both(m.old_format, m.drop(f"{LAST}/hook.ema.safetensors")), (), "hook.ema"),
    # state.json
    *((f"state {key} {value!r}", m.state(**{key: value}), (), f"{key}|step 2|epochs: 5|100 steps")
      for key, value in [("step", -1), ("step", 100), ("step", 3.5), ("step", "4"), ("step", True), ("step", 2),
                         ("step", None), ("closed_epochs", 5), ("closed_epochs", -1), ("images_seen", -4),
                         ("best", "0.5"), ("best", float("inf")), ("metrics", []), ("metrics", {"a": "b"}),
                         ("stopped", 3), ("hooks", {}), ("hooks", [1])]),
    ("state unsigned", m.state(signed=False, step=5), (), "state.json' has"),
    ("state of an old run", m.both(m.old_format, m.state(signed=False, step=7)), (), "train.epochs|step 7"),
    # files of the run
    *((f"{name} {kind}", m.text(f"run/{name}", content), (), name)
      for name in ("classes.json", "ledger.json", "environment.json", "config.yaml")
      for kind, content in [("cut", '{"names": ["da'), ("list", "[1, 2]"), ("empty", ""), ("deep", DEEP),
                            ("number", "3"), ("binary", b"\xff\xfe\x00"), ("other keys", '{"a": {"b": 1}}')]),
    ("classes swapped", m.document("run/classes.json", m.swap), (), SWAPPED),
    ("ids swapped", m.document("run/classes.json", lambda c: c["source_ids"].reverse()), (), r"\[90, 3\]"),
    ("ids no numbers", m.document("run/classes.json", lambda c: c.update(source_ids=["3", 90])), (), "classes.json"),
    ("ledger rows", m.document("run/ledger.json", lambda c: c["rows"].append(3)), (), "ledger.json"),
    ("ledger lr", m.document("run/ledger.json", lambda c: c["rows"][0].update(lr=7)), (), "ledger of this config"),
    ("changes", m.document("run/environment.json", lambda c: c.update(changes=[3])), (), "environment.json"),
    ("no config", m.drop("run/config.yaml"), (), "has no config.yaml"),
    ("no classes", m.drop("run/classes.json"), (), "has no classes.json"),
    ("no environment", m.drop("run/environment.json"), (), "environment.json' is missing"),
    ("no ledger", m.drop("run/ledger.json"), (), "has no ledger.json"),
    ("last removed later", m.both(m.drop(LAST), m.text("run/log.jsonl", '{"step": 4, "epoch": 2}\n')), (),
     "last' is missing, although the run had written it"),
]  # fmt: skip

HARMLESS = [
    ("nothing", m.nothing, ()),
    ("run.out", m.config(run__out="elsewhere"), ()),
    ("start weights", m.config(model__weights="gone.safetensors"), ()),
    ("cache, verify", m.config(data__cache=0, train__verify="off"), ()),
    ("device", m.config(train__device="auto"), ()),
    ("log and checkpoint", m.config(hooks=hooks(log=QUIET, checkpoint={"every_steps": 1})), ()),
    ("paths", m.both(m.move("data", "moved"), m.config(
        data__train={"json": "moved/train.json", "images": "moved/images", "masks": None},
        data__val={"json": "moved/val.json", "images": "moved/images", "masks": None})), ()),
    ("another picture", lambda here: shutil.copy(here / "data/images/008.png", here / "data/images/x.png"), ()),
    ("last.old", m.move(LAST, "run/checkpoints/.last.old"), ()),
    ("best.old", m.move(BEST, "run/checkpoints/.best.old"), ()),
    ("damaged results", m.both(m.text("run/metrics.json", DEEP), m.cut("run/predictions.json")), ()),
    ("damaged log", m.text("run/log.jsonl", b'[1]\n3\n{"step": "x"}\n\xff{"st'), ()),
    ("an old run", m.old_format, ()),
    ("no checkpoint yet", m.both(m.drop("run/checkpoints"), m.text("run/log.jsonl", '{"step": 2, "epoch": 1}\n')), ()),
    ("set to the same", m.nothing, ["train.lr=0.001"]),
]  # fmt: skip

RECORDED = [  # change, --set, keys that are recorded
    (m.nothing, ["train.lr=0.002"], {"train.lr"}),
    (m.nothing, ["train.seed=3", "train.clip=1"], {"train.seed", "train.clip"}),
    (m.nothing, ["data.image_size=64"], {"data.image_size"}),
    (m.nothing, ["data.augment.mosaic=0.25"], {"data.augment.mosaic"}),
    (m.nothing, [set_hooks(hooks(ema=None))], {"hooks.ema"}),
    (m.nothing, [set_hooks(hooks(freeze=None))], {"hooks.freeze"}),
    (m.nothing, [set_hooks(hooks(early_stop={"patience": 3}))], {"hooks.early_stop"}),
    (m.document("data/train.json", m.move_a_box), ["data.train.json=data/train.json"], {"data.train.json (content)"}),
    (m.config(train__lr=0.1), ["train.lr=0.002"], {"train.lr"}),
    (m.config(train__epochs=3), [], {"train.epochs"}),
]


@pytest.fixture(scope="module", autouse=True)
def _no_pictures() -> Iterator[None]:
    """Draw nothing: it is the same for every row and takes most of the time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runs, "draw_pictures", lambda *_: None)
        patch.setattr(runs, "write_report", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def origin(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> tuple[Path, dict[str, Any]]:
    """A folder with data/ and the interrupted run/, and the end of the same run without interruption."""
    here = tmp_path_factory.mktemp("origin")
    shutil.copytree(tiny_dataset, here / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        end = end_of(tlvision.train(CONFIG).run)
        shutil.rmtree("run")
        with interrupted(4):
            tlvision.train(CONFIG)
    assert {path.name for path in (here / LAST).iterdir()} == {*PARTS, "manifest.json"}
    return here, end


def end_of(run: Path) -> dict[str, Any]:
    files = sorted(run.glob("checkpoints/*/*.safetensors"))
    assert len(files) >= 4
    found: dict[str, Any] = {f"{f.parent.name}/{f.name}|{k}": v for f in files for k, v in load_file(str(f)).items()}
    return found | {"metrics": json.loads((run / "metrics.json").read_text())}


@pytest.fixture
def here(origin: tuple[Path, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder, in which the process is."""
    shutil.copytree(origin[0], tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


def ids(rows: list[Any]) -> list[str]:
    names = [str(row[0]) for row in rows]
    assert len(set(names)) == len(names)
    return names


def test_the_tables_are_not_empty() -> None:
    assert len(EDITED) >= 35
    assert len(REFUSED) >= 110
    assert len(HARMLESS) >= 14
    assert len(RECORDED) >= 10


@pytest.mark.parametrize(("change", "overrides", "text"), [row[1:] for row in REFUSED], ids=ids(REFUSED))
def test_refused(here: Path, change: Any, overrides: list[str], text: str) -> None:
    change(here)
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=f"(?s){text}"):
        tlvision.train({}, overrides, resume="run")
    after = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert after == before, "what is refused changes nothing"


@pytest.mark.parametrize(("change", "overrides"), first_fast([row[1:] for row in HARMLESS], 7), ids=ids(HARMLESS))
def test_harmless(origin: tuple[Path, dict[str, Any]], here: Path, change: Any, overrides: list[str]) -> None:
    change(here)
    run = tlvision.train({}, overrides, resume="run").run
    assert run == Path("run")
    straight, resumed = origin[1], end_of(here / "run")
    assert straight.keys() == resumed.keys()
    differing = [
        name for name, value in straight.items()
        if not (value == resumed[name] if name == "metrics" else bool((value == resumed[name]).all()))
    ]  # fmt: skip
    assert not differing


@pytest.mark.parametrize(("change", "overrides", "keys"), first_fast(RECORDED, 4))
def test_recorded(
    origin: tuple[Path, dict[str, Any]], here: Path, change: Any, overrides: list[str], keys: set[str]
) -> None:
    change(here)
    tlvision.train({}, overrides, resume="run")
    changes = json.loads((here / "run/environment.json").read_text())["changes"]
    assert {entry["key"] for entry in changes} == keys
    assert {entry["step"] for entry in changes} == {4}
    log = [json.loads(line) for line in (here / "run/log.jsonl").read_text().splitlines()]
    assert {line["key"] for line in log if line["kind"] == "change"} == keys
    written = yaml.safe_load((here / "run/config.yaml").read_text())
    assert written == yaml.safe_load((here / LAST / "config.yaml").read_text())
    for override in overrides:
        path, _, value = override.partition("=")
        section = written
        for key in path.split("."):
            section = section[key]
        assert section == yaml.safe_load(value)
    again = tlvision.train({}, resume="run").run  # the changed config is the run's own now
    assert json.loads((again / "environment.json").read_text())["changes"] == changes
    assert end_of(here / "run").keys()


def test_a_change_survives_a_kill_before_the_next_checkpoint(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "_fit", lambda *_: (_ for _ in ()).throw(SystemExit))
    for overrides in (["train.lr=0.002"], []):
        with pytest.raises(SystemExit):
            tlvision.train({}, overrides, resume="run")
        changes = json.loads((here / "run/environment.json").read_text())["changes"]
        assert [(entry["key"], entry["new"]) for entry in changes] == [("train.lr", 0.002)]
        log = (here / "run/log.jsonl").read_text()
        assert log.count('"kind": "change"') == 1


def test_other_processes_and_packages(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    m.document(f"{LAST}/environment.json", lambda c: c["packages"].update(torch="1.0"))(here)
    m.state()(here)
    tlvision.train({}, resume="run")
    assert "torch was 1.0, is" in capsys.readouterr().out
    m.document(f"{LAST}/environment.json", lambda c: c.update(processes=2))(here)
    m.state()(here)
    with pytest.raises(InputError, match="torchrun --nproc-per-node 2"):
        tlvision.train({}, resume="run")


LOADED = [
    ("swapped", m.document("run/classes.json", m.swap), SWAPPED),
    ("classes cut", m.cut("run/classes.json"), "classes.json"),
    ("classes deep", m.text("run/classes.json", DEEP), "classes.json"),
    ("config cut", m.text("run/config.yaml", "model: {plugin"), "config.yaml"),
    ("config deep", m.text("run/config.yaml", DEEP), "config.yaml"),
    ("config empty", m.text("run/config.yaml", ""), "config.yaml"),
    ("nan", m.tensors(BEST, m.fill(float("nan"))), "best/model.safetensors' is damaged: the tensor 'backbone"),
    ("names", m.tensors(BEST, lambda state: None, "{}"), "not a (JSON )?list of (texts|names)"),
    ("cut", m.cut(f"{BEST}/model.safetensors"), "best/model.safetensors' has .* bytes"),
    ("gone", m.drop(f"{BEST}/model.safetensors"), "best/model.safetensors' is missing"),
    ("manifest", m.cut(f"{BEST}/manifest.json"), "manifest.json"),
    ("no checkpoint", m.drop("run/checkpoints"), "no checkpoint at .*every_steps"),
    ("no manifest, cut", m.both(m.old_format, m.cut(f"{BEST}/model.safetensors")), "model.safetensors"),
]


@pytest.mark.parametrize(("change", "text"), [row[1:] for row in LOADED], ids=ids(LOADED))
def test_load_refuses(here: Path, change: Any, text: str) -> None:
    change(here)
    with pytest.raises(InputError, match=f"(?s){text}"):
        tlvision.load("run")


@pytest.mark.parametrize("change", [m.move(BEST, "run/checkpoints/.best.old"), m.drop(BEST), m.old_format])
def test_load_finds(here: Path, change: Any) -> None:
    change(here)
    assert tlvision.load("run").classes.names == ("dark", "light")


def test_the_documentation_lists_what_may_change(repository: Path) -> None:
    text = (repository / "docs" / "resume.md").read_text()
    for key, reason in (MAY_CHANGE | CANNOT_CHANGE).items():
        assert f"| `{key}` | {reason} |" in text
