"""Checks of the hook contract. Each raises AssertionError with a sentence that names what broke the promise."""

from __future__ import annotations

import copy
import inspect
import json
import pickle
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from tlvision.conformance.checks.tools import changed, same, snapshot
from tlvision.conformance.hook_case import EPOCHS, HookCase
from tlvision.engine.model_hooks import merge_model, modify_model
from tlvision.hooks import DataHook, Duration, Hook, ModelHook, ObjectiveHook, ObserverHook, SetupHook, initial_plan
from tlvision.hooks.registry import ALWAYS, hook_schema
from tlvision.plugin import map_groups
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from pathlib import Path

    from tlvision.plugin import Adapter


@dataclass(frozen=True, slots=True, kw_only=True)
class HookPromise:
    """One promise of the hook contract.

    name:    name of the function that checks it.
    promise: one sentence, the first line of its docstring.
    run:     raises AssertionError; any other error counts too.
    kind:    the kind of hooks that it applies to.
    trains:  True if it needs whole runs, which take about a second each.
    """

    name: str
    promise: str
    run: Callable[[HookCase], None]
    kind: type[Hook] = Hook
    trains: bool = False


def _check(kind: type[Hook] = Hook, *, trains: bool = False) -> Callable[[Callable[[HookCase], None]], HookPromise]:
    def make(function: Callable[[HookCase], None]) -> HookPromise:
        promise = (function.__doc__ or "").strip().splitlines()[0]
        return HookPromise(name=function.__name__, promise=promise, run=function, kind=kind, trains=trains)

    return make


@_check()
def describes_itself(case: HookCase) -> None:
    """The class has a docstring that names every parameter, and its module one that names the source of the method."""
    text = inspect.cleandoc(case.kind.__doc__ or "")
    assert text, f"{case.kind.__name__} has no docstring"
    absent = [name for name in hook_schema(case.kind).model_fields if not re.search(rf"\b{name}\b", text)]
    assert not absent, f"the docstring of {case.kind.__name__} does not name the parameters {listing(absent)}"
    assert sys.modules[case.kind.__module__].__doc__, f"the module of {case.kind.__name__} has no docstring"


@_check()
def building_is_repeatable(case: HookCase) -> None:
    """Two hooks with the same parameters are separate objects in the same state."""
    first, second = case.build(), case.build()
    assert first is not second
    assert same(first.state_dict(), second.state_dict()), "two new hooks differ in their state_dict"
    assert first.key() == case.name


@_check()
def state_is_tensors_and_json(case: HookCase) -> None:
    """`state_dict` holds tensors and JSON values, and a new hook takes them back."""
    state = case.build().state_dict()
    _check_state(state)
    restored = case.build()
    restored.load_state_dict(copy.deepcopy(state))
    assert _equal(restored.state_dict(), state), "load_state_dict does not take back what state_dict gave"


@_check(SetupHook)
def setup_is_pure(case: HookCase) -> None:
    """`setup` gives the same plan for the same plan, and changes neither that plan nor the model."""
    adapter, hook = case.adapter(), case.build()
    assert isinstance(hook, SetupHook)
    before = snapshot(adapter.module)
    plan = initial_plan(adapter.module, map_groups(adapter.module, adapter.groups), Duration(EPOCHS, 2))
    rows = dict(plan.parameters)
    first, second = hook.setup(plan), hook.setup(plan)
    assert dict(plan.parameters) == rows, "setup() has changed the plan that it was given; return a new one"
    assert dict(first.parameters) == dict(second.parameters), "setup() gives two plans for the same plan"
    assert first.parameters.keys() == rows.keys(), "setup() adds or loses parameters; every one has one row"
    assert first.trained(), "setup() leaves nothing to train"
    assert not changed(adapter.module, before), "setup() has changed the model"
    assert all(p.requires_grad for p in adapter.module.parameters()), "setup() sets requires_grad; the core does"


@_check(ModelHook)
def modules_are_the_same_every_time(case: HookCase) -> None:
    """`modify` keeps all parameters of the model under their names, and adds the same ones to the same model."""
    first, second = (_modified(case)[1] for _ in range(2))
    names = [name for name, _ in first.module.named_parameters()]
    assert names == [name for name, _ in second.module.named_parameters()], "modify() adds other parameters each time"
    assert same(snapshot(first.module), snapshot(second.module)), "modify() gives other values to the same model"
    map_groups(first.module, first.groups)


@_check(ModelHook)
def copies_are_separate(case: HookCase) -> None:
    """A deep copy of the changed model, such as a teacher, computes the same and has its own parameters."""
    _, adapter = _modified(case)
    _train_a_little(adapter)
    twin = copy.deepcopy(adapter)
    expected = _predict(adapter)
    with torch.no_grad():
        for parameter in adapter.module.parameters():
            parameter.add_(1.0)
    assert same(_predict(twin), expected), "a copy of the model changes with the model, or computes something else"


@_check(ModelHook)
def merged_weights_predict_the_same(case: HookCase) -> None:
    """`merge` returns a model with only its own parameters and equal predictions, or raises InputError."""
    plain, (hook, adapter) = case.adapter(), _modified(case)
    _train_a_little(adapter)
    expected = _predict(adapter)
    try:
        merge_model([hook], adapter)
    except InputError:
        return
    left = adapter.module.state_dict().keys() - plain.module.state_dict().keys()
    assert not left, f"merge() leaves parameters of the hook: {listing(sorted(left))}"
    for merged, before in zip(_predict(adapter), expected, strict=True):
        assert torch.allclose(merged, before, atol=1e-3, rtol=1e-3), "the merged model predicts something else"


@_check(DataHook)
def change_is_deterministic(case: HookCase) -> None:
    """`change` depends on its arguments and the generator alone, and gives a new image of the same shape."""
    hook = case.build()
    assert isinstance(hook, DataHook)
    travelled = pickle.loads(pickle.dumps(hook))  # our own bytes: loading processes get hooks so
    drawn = np.random.default_rng(0)
    image, other = drawn.integers(0, 256, (40, 60, 3), np.uint8), drawn.integers(0, 256, (64, 48, 3), np.uint8)
    kept = image.copy(), other.copy()
    seeds = range(4)
    results = [[each.change(image, other, np.random.default_rng(seed)) for seed in seeds] for each in (hook, travelled)]
    again = [hook.change(image, other, np.random.default_rng(seed)) for seed in seeds]
    for result in results[0]:
        assert (result.shape, result.dtype) == (image.shape, np.uint8), "change() gives another shape or dtype"
    assert _same_arrays((image, other), kept), "change() writes into its input"
    assert np.array_equal(results[0], again), "change() gives something else for the same image and generator"
    assert np.array_equal(results[0], results[1]), "a hook that was sent to another process gives something else"


@_check(ObjectiveHook)
def losses_are_finite(case: HookCase) -> None:
    """Every loss is a finite 0-d tensor, and so is its gradient."""
    from tlvision.training.losses import batch_losses

    session = case.session()
    context = session.context
    for moment in ("before_fit", "before_step"):
        for hook in session.hooks:
            if hook.key() not in ALWAYS:  # those write files
                getattr(hook, moment)(context)
        context.step = context.duration.total_steps // 2  # losses that are ramped up are not 0 there
    session.modes().apply()
    losses = batch_losses(context, session.hooks, next(session.batches(context.step, context.step + 1)))
    own = {name: loss for name, loss in losses.items() if name.startswith(f"{case.name}/")}
    for name, loss in own.items():
        assert loss.ndim == 0, f"the loss '{name}' has the shape {tuple(loss.shape)}"
        assert bool(loss.isfinite()), f"the loss '{name}' is {loss.item()}"
    graded = [loss for loss in own.values() if loss.requires_grad]
    assert own, "losses() returned nothing in the middle of a run"
    parameters = [p for group in session.optimizer.param_groups for p in group["params"] if p.requires_grad]
    for loss in graded:
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        assert all(bool(each.isfinite().all()) for each in gradients if each is not None), "a gradient is not finite"


@_check(ObserverHook, trains=True)
def observers_change_no_weights(case: HookCase) -> None:
    """A run with the hook trains the same weights as one without, bit for bit."""
    with_hook, without = (_last(run, "model") for run in (case.straight, case.without))
    if _step(case.straight) == _step(case.without):  # a hook may end the run earlier
        assert same(with_hook, without), "the weights of a run with the hook differ from those of one without"


@_check(trains=True)
def a_resumed_run_is_identical(case: HookCase) -> None:
    """A run that is interrupted and resumed ends with the same weights, optimizer and hooks, bit for bit."""
    straight, resumed = _last(case.straight), _last(case.resumed)
    assert straight.keys() == resumed.keys(), "the checkpoints hold different tensors"
    unlike = [name for name in straight if not same(straight[name], resumed[name])]
    assert not unlike, f"after resuming, these differ: {listing(sorted(unlike))}; is all of it in state_dict()?"


ALL_PROMISES = (
    describes_itself,
    building_is_repeatable,
    state_is_tensors_and_json,
    setup_is_pure,
    modules_are_the_same_every_time,
    copies_are_separate,
    merged_weights_predict_the_same,
    change_is_deterministic,
    losses_are_finite,
    observers_change_no_weights,
    a_resumed_run_is_identical,
)


def _check_state(state: dict[str, Any]) -> None:
    for name, value in state.items():
        if not isinstance(value, torch.Tensor):
            try:
                json.dumps(value)
            except (TypeError, ValueError):
                raise AssertionError(
                    f"state_dict()['{name}'] is a {type(value).__name__}; give tensors or JSON values"
                ) from None


def _equal(left: dict[str, Any], right: dict[str, Any]) -> bool:
    plain = [{k: v for k, v in each.items() if not isinstance(v, torch.Tensor)} for each in (left, right)]
    return left.keys() == right.keys() and same(left, right) and plain[0] == plain[1]


def _same_arrays(first: Sequence[Any], second: Sequence[Any]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def _modified(case: HookCase) -> tuple[Hook, Adapter]:
    torch.manual_seed(0)
    adapter, hook = case.adapter(), case.build()
    modify_model([hook], adapter)
    return hook, adapter


@torch.no_grad()
def _train_a_little(adapter: Adapter) -> None:
    """Move all parameters a little, as training would."""
    generator = torch.Generator().manual_seed(0)
    for parameter in adapter.module.parameters():
        parameter.add_(0.01 * torch.randn(parameter.shape, generator=generator))


def _predict(adapter: Adapter) -> list[torch.Tensor]:
    adapter.module.eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return list(adapter.features(images).values())


def _last(run: Path, what: str = "*") -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    files = sorted((run / "checkpoints" / "last").glob(f"{what}.safetensors"))
    return {f"{file.stem}|{key}": value for file in files for key, value in load_file(str(file)).items()}


def _step(run: Path) -> int:
    return int(json.loads((run / "checkpoints" / "last" / "state.json").read_text(encoding="utf-8"))["step"])
