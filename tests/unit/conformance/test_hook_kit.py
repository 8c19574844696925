"""The hook kit: our own hooks pass it, hooks that break a promise do not, and scaffolds pass as they stand."""

from __future__ import annotations

import atexit
import importlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tlvision.cli.main import main
from tlvision.conformance import HookCheck, hook_checks
from tlvision.conformance.hook_promises import ALL_PROMISES
from tlvision.conformance.new_hook import FILES, KINDS, new_hook
from tlvision.hooks import Context, DataHook, Hook, ModelHook, ObjectiveHook, ObserverHook, Plan, SetupHook, registry
from tlvision.types import InputError

TRACKERS = Path(tempfile.mkdtemp(prefix="tlvision-trackers-"))
atexit.register(shutil.rmtree, TRACKERS, ignore_errors=True)
OPTIONS: dict[str, dict[str, Any]] = {
    "freeze": {"roles": ["stem"]},
    "gradual_unfreeze": {"at": [0.4], "down_to": "neck"},
    "lr_groups": {"roles": {"head": {"lr": 0.01}}},
    "cyclic_lr": {"cycles": 1},
    "layerwise_lr": {"decay": 0.8},
    "distill": {"run": "a run of the kit", "least": 0, "objects": 1.0, "threshold": 0.01},
    "mlflow": {"tracking_uri": f"sqlite:///{TRACKERS / 'mlflow.db'}"},
}
"""Parameters of our hooks that six steps need, and a store for the records outside of the current folder."""


@cache
def checks_of(name: str) -> list[HookCheck]:
    return hook_checks(name, OPTIONS.get(name))


OURS = [check for name in registry.BUILT_IN for check in checks_of(name)]
assert len(OURS) > 80


@pytest.mark.parametrize(
    "check", [pytest.param(each, marks=[pytest.mark.slow] if each.trains else [], id=str(each)) for each in OURS]
)
def test_our_hooks(check: HookCheck) -> None:
    if check.trains:
        for package, command in check.case.kind.packages.items():
            pytest.importorskip(package, reason=f"{package} is an extra: {command}")
    check()


class NoDocstring(ObserverHook):
    pass


class UnnamedParameter(ObserverHook):
    """Say nothing of the parameter."""

    def __init__(self, *, hidden: int = 1) -> None:
        self.hidden = hidden


class RandomStart(ObserverHook):
    """Begin with a random number."""

    def state_dict(self) -> dict[str, Any]:
        return {"start": torch.rand(3)}


class StateOfObjects(ObserverHook):
    """Hold a path in its state."""

    def state_dict(self) -> dict[str, Any]:
        return {"path": Path()}


class ForgetsState(ObserverHook):
    """Take nothing back."""

    def __init__(self) -> None:
        self.values = [float(number) for number in range(next(COUNTER))]

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}


class CountsCalls(SetupHook):
    """Give another plan each time."""

    calls = 0

    def setup(self, plan: Plan) -> Plan:
        self.calls += 1
        return plan.scale_lr(plan.parameters, 1.0 + self.calls, "calls")


class RandomModules(ModelHook):
    """Add a parameter with another name each time."""

    def modify(self, adapter: Any) -> list[str]:
        number = next(COUNTER)
        adapter.module.backbone.stem.register_parameter(f"extra{number}", torch.nn.Parameter(torch.ones(1)))
        return []


class SharedScale(ModelHook):
    """Scale an output by a parameter that copies share, and merge to something else."""

    def modify(self, adapter: Any) -> list[str]:
        stem = adapter.module.backbone.stem
        stem.scale = torch.nn.Parameter(torch.ones(1))
        self.handle = stem.register_forward_hook(lambda layer, inputs, output: output * stem.scale)
        return []

    def merge(self, adapter: Any) -> None:
        self.handle.remove()
        with torch.no_grad():
            adapter.module.backbone.stem.scale.zero_()
        del adapter.module.backbone.stem.scale
        next(adapter.module.parameters()).data.add_(1.0)


class GlobalDraw(DataHook):
    """Draw from numpy's global generator."""

    def change(self, image: Any, other: Any, rng: np.random.Generator) -> Any:
        return np.clip(image + np.random.normal(0, 50), 0, 255).astype(np.uint8)


class InfiniteLoss(ObjectiveHook):
    """Return a loss that is not finite."""

    def losses(self, context: Context) -> dict[str, torch.Tensor]:
        return {"inf": context.step_data.images.sum() / 0.0}


class MovesWeights(ObserverHook):
    """Change a weight after every step."""

    def after_step(self, context: Context) -> None:
        with torch.no_grad():
            next(context.adapter.module.parameters()).add_(1e-3)


class ForgetsSteps(ObserverHook):
    """Scale the gradients by a number of steps that a resumed run begins anew."""

    steps = 0

    def after_backward(self, context: Context) -> None:
        self.steps += 1
        for parameter in context.adapter.module.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(1.0 / self.steps)


def _count() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


COUNTER = _count()
BROKEN: list[tuple[type[Hook], str]] = [
    (NoDocstring, "describes_itself"),
    (UnnamedParameter, "describes_itself"),
    (RandomStart, "building_is_repeatable"),
    (StateOfObjects, "state_is_tensors_and_json"),
    (ForgetsState, "state_is_tensors_and_json"),
    (CountsCalls, "setup_is_pure"),
    (RandomModules, "modules_are_the_same_every_time"),
    (SharedScale, "copies_are_separate"),
    (SharedScale, "merged_weights_predict_the_same"),
    (GlobalDraw, "change_is_deterministic"),
    (InfiniteLoss, "losses_are_finite"),
    (MovesWeights, "observers_change_no_weights"),
    (ForgetsSteps, "a_resumed_run_is_identical"),
]


def test_every_check_has_a_hook_that_breaks_it() -> None:
    assert {name for _, name in BROKEN} == {check.name for check in ALL_PROMISES}


@pytest.mark.parametrize(("broken", "name"), BROKEN)
def test_a_broken_promise_is_caught_by_its_check(
    broken: type[Hook], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(registry.BUILT_IN, broken.key(), f"{__name__}:{broken.__name__}")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[broken.__module__])
    (check,) = (each for each in hook_checks(broken.key()) if each.name == name)
    assert check.outcome().status == "fail"


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, Path], None]]:
    """Make a folder that `new_hook` wrote importable, and its entry point known, for one test."""
    points = []

    def add(name: str, folder: Path) -> None:
        monkeypatch.syspath_prepend(str(folder))
        title = "".join(part.capitalize() for part in name.split("_"))
        points.append(EntryPoint(name, f"tlvision_{name}.hook:{title}", registry.GROUP))
        registry._third_party.cache_clear()

    monkeypatch.setattr(registry, "entry_points", lambda group: (*entry_points(group=group), *points))
    yield add
    monkeypatch.undo()
    registry._third_party.cache_clear()


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_hook_passes_the_kit_as_it_stands(
    kind: str, tmp_path: Path, install: Callable[[str, Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"new_{kind}"
    assert main(["new-hook", name, "--kind", kind, "--in", str(tmp_path)]) == 0
    folder = tmp_path / f"tlvision-{name}"
    files = {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*") if path.is_file()}
    assert files.keys() == {target.format(name=name) for target in (*FILES.values(), "tlvision_{name}/hook.py")}
    assert not [path for path, text in files.items() if "$" in text]
    assert f"tlvision check-hook {name}" in capsys.readouterr().out
    install(name, folder)
    for check in hook_checks(name):
        if not check.trains:
            check()
    importlib.import_module(f"tlvision_{name}.hook")


def test_every_template_of_a_hook_is_written() -> None:
    templates = Path(sys.modules[new_hook.__module__].__file__ or "").with_name("hook_template")
    found = {path.relative_to(templates).as_posix() for path in templates.rglob("*.tmpl")}
    assert found == FILES.keys() | {f"kinds/{kind}.py.tmpl" for kind in KINDS}


@pytest.mark.parametrize(
    ("name", "kind", "problem"),
    [
        ("My", "setup", "expected a name of lower-case letters"),
        ("step_2", "setup", "Begin every part between underscores with a letter"),
        ("freeze", "setup", "there is a hook 'freeze' already"),
        ("toy", "setup", "there is a package 'tlvision_toy' already"),
        ("mine", "setups", "no kind of hook 'setups'.*setup"),
    ],
)
def test_a_new_hook_that_cannot_be_is_refused(name: str, kind: str, problem: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=problem):
        new_hook(name, tmp_path, kind=kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow  # four seconds; what fails is tested one by one
def test_check_hook_prints_what_failed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(registry.BUILT_IN, "counts_calls", f"{__name__}:CountsCalls")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[CountsCalls.__module__])
    assert main(["check-hook", "counts_calls"]) == 1
    out, err = capsys.readouterr()
    assert "setup_is_pure: setup() gives two plans for the same plan" in out
    assert "'counts_calls' fails 1 of 5 checks" in err
    assert main(["check-hook", "freeze", "--options", "[1]"]) == 2
    assert main(["check-hook", "layerwise_lr"]) == 2
    assert "'layerwise_lr' cannot be built with {}: decay: Field required" in capsys.readouterr().err
    assert main(["check-hook", "freeze"]) == 2
    assert "no parameter is selected" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[] if kind == "model" else [pytest.mark.nightly]) for kind in KINDS]
)
def test_installed_with_pip_its_own_test_passes(kind: str, tmp_path: Path) -> None:
    folder, site = new_hook("acme_hook", tmp_path, kind=kind), tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps"]
    subprocess.run([*install, "--target", str(site), str(folder)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder / "tests")],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(site), *sys.path])},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "passed" in done.stdout
