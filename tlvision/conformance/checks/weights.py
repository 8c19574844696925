"""Weights: loaded keys are reported, other files are refused, and no code in a file runs."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from tlvision.conformance.check import check
from tlvision.conformance.checks.tools import same
from tlvision.plugin import BuildSpec
from tlvision.training.checkpoint import MODEL, save_weights
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.conformance.case import Case
    from tlvision.plugin import WeightReport


@check()
def weight_report_complete(case: Case) -> None:
    """The weight report lists every key of the model exactly once, and loaded keys have the values of the file."""
    adapter, report = case.build(weights="none")
    _check_lists_every_key(adapter.module, report, "without weights")
    filled = (*report.loaded, *report.remapped)
    assert not filled, f"without weights, the report says that {listing(filled)} were filled"
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        save_weights(path, _other_values(adapter.module.state_dict()), case.classes)
        adapter, report = case.build(weights=str(path), seed=1)
        _check_lists_every_key(adapter.module, report, "from its own file")
        left = set(adapter.module.state_dict()) - set(report.loaded)
        assert not left, f"from its own file, the report does not call {listing(sorted(left))} loaded"
        _check_loaded(adapter.module, report, load_file(path))
        assert not report.unused, f"from its own file, the report calls {listing(report.unused)} unused"
    if case.weights != "none":
        adapter, report = case.build()
        _check_lists_every_key(adapter.module, report, f"from '{case.weights}'")


def _other_values(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return values that no fresh model has, not even in counters and statistics; the same for shared tensors."""
    generator = torch.Generator().manual_seed(0)
    noise: dict[tuple[int, ...], Tensor] = {}
    for value in state.values():
        noise.setdefault((value.data_ptr(), *value.shape), torch.randn(value.shape, generator=generator))
    return {
        name: (
            value + 0.01 * noise[value.data_ptr(), *value.shape].to(value) if value.is_floating_point() else value + 1
        )
        for name, value in state.items()
    }


def _check_lists_every_key(module: nn.Module, report: WeightReport, where: str) -> None:
    keys = set(module.state_dict())
    listed = Counter([*report.loaded, *report.missing])
    listed.update(entry.partition(":")[0] for entry in (*report.mismatched, *report.remapped))
    for fault, names in (
        ("leaves out", keys - set(listed)),
        ("lists more than once", {name for name, count in listed.items() if count > 1}),
        ("lists, though the model has no such key,", set(listed) - keys),
    ):
        assert not names, f"{where}, the weight report {fault} {listing(sorted(names))}"


def _check_loaded(module: nn.Module, report: WeightReport, tensors: Mapping[str, Tensor]) -> None:
    state = module.state_dict()
    unlike = [name for name in report.loaded if not same(state[name], tensors[name])]
    assert not unlike, f"the weight report calls {listing(unlike)} loaded, but the values are not those of the file"


@check()
def weights_of_another_architecture(case: Case) -> None:
    """A file of another architecture is refused; nothing is trained from scratch that was asked to be pretrained."""
    adapter, _ = case.build(weights="none")
    state = adapter.module.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / MODEL
        save_weights(path, {f"something.else.{number}": torch.ones(3) for number in range(3)}, case.classes)
        _check_refused(case, path, "a file with none of the model's keys")
        save_weights(path, {name: value[None].repeat_interleave(2, 0) for name, value in state.items()}, case.classes)
        _check_refused(case, path, "a file whose tensors all have another shape")


def _check_refused(case: Case, path: Path, what: str) -> None:
    try:
        case.build(weights=str(path))
    except InputError:
        return
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}, not InputError: {error}") from error
    raise AssertionError(f"{what} is accepted; expected an InputError")


@check(scope="plugin")
def errors_are_for_people(case: Case) -> None:
    """A wrong name or a bad weight file is an InputError that names it, and no file can run code."""
    unknown, plugin = f"{case.arch}x", case.plugin
    spec = BuildSpec(arch=case.arch, weights="none", classes=case.classes, image_size=case.image_size)
    known = plugin.architectures()
    _check_told("task_of() of an unknown architecture", partial(plugin.task_of, unknown), known)
    _check_told("build() of an unknown architecture", partial(plugin.build, replace(spec, arch=unknown)), known)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ran = folder / "ran"
        for path in (folder / "absent.pt", *_bad_files(folder, ran)):
            _check_told(f"weights '{path.name}'", partial(plugin.build, replace(spec, weights=str(path))), (path.name,))
            assert not ran.exists(), f"building from '{path.name}' ran code out of the file"


def _bad_files(folder: Path, ran: Path) -> list[Path]:
    """Write files that hold no weights; two of them, when unpickled, create the folder `ran`."""
    names = ("text.pt", "text.safetensors", "code.pt", "code_in_zip.pt")
    text, broken, code, code_in_zip = paths = [folder / name for name in names]
    text.write_text("These are no weights.\n", encoding="utf-8")
    broken.write_text("Nor are these.\n", encoding="utf-8")
    code.write_bytes(pickle.dumps(_RunsCode(ran), protocol=2))
    torch.save({"model": _RunsCode(ran)}, code_in_zip)
    return paths


class _RunsCode:
    """An object whose pickle creates a folder when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def _check_told(what: str, act: Callable[[], object], names: tuple[str, ...]) -> None:
    try:
        act()
    except InputError as error:
        told = str(error)
    except Exception as error:
        raise AssertionError(f"{what} raises {type(error).__name__}, not InputError: {error}") from error
    else:
        raise AssertionError(f"{what} is accepted; expected an InputError")
    assert any(name in told for name in names), f"{what}: the InputError names neither it nor its like: {told}"
