"""One hook under test, with small runs of a tiny model that use it."""

from __future__ import annotations

import atexit
import shutil
import signal
import tempfile
import weakref
from collections.abc import Mapping
from functools import cache, cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tlvision.config.hook_config import parse_hook
from tlvision.hooks import Context, Hook, ObserverHook
from tlvision.hooks.registry import ALWAYS, build_hook, hook_class
from tlvision.hooks.run_model import LearnsFromRun
from tlvision.plugin import get_plugin
from tlvision.plugin.registry import GROUP
from tlvision.synthetic.inspection.dataset import domain_classes
from tlvision.tasks import get_task
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from tlvision.engine.build import Run
    from tlvision.plugin import Adapter, Plugin
    from tlvision.training.session import Session

EPOCHS = 3
INTERRUPTED_AT = 3
"""A step within the second of three epochs of two steps."""
_IMAGE_SIZE = 64


class HookCase:
    """One hook under test; every check of the hook kit takes it.

    name:    of an installed hook.
    options: its parameters, as a config has them. A hook that learns from a run gets one of the tiny model.

    Raises InputError if there is no such hook or it cannot be built with these options.
    """

    def __init__(self, name: str, options: Mapping[str, Any] | None = None) -> None:
        self.name, self.options = name, dict(options or {})
        self.kind: type[Hook] = hook_class(name)
        self.build()

    def build(self) -> Hook:
        """Return a new hook."""
        try:
            return build_hook(self.name, parse_hook(self.name, self.options).parameters)
        except ValidationError as error:
            problems = listing(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            raise InputError(f"hook '{self.name}' cannot be built with {self.options}: {problems}") from None

    @cached_property
    def folder(self) -> Path:
        """A folder for the runs, which is removed with the case."""
        folder = Path(tempfile.mkdtemp(prefix="tlvision-hook-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return folder

    @cached_property
    def plugin(self) -> Plugin:
        """The plugin of tlvision itself that needs no upstream library."""
        points = entry_points(group=GROUP)
        own = [get_plugin(point.name) for point in points if point.dist is not None and point.dist.name == "tlvision"]
        return next(plugin for plugin in own if not plugin.upstream)

    @cached_property
    def arch(self) -> str:
        """The first tiny model that has all that the hook needs; InputError if there is none."""
        own = {name for name, answer in self.plugin.capabilities.items() if answer == "yes"}
        for arch in self.plugin.architectures():
            has = own | set(get_task(self.plugin.task_of(arch)).capabilities)
            if all(needed.__name__ in has for needed in self.kind.needs):
                return arch
        needs = listing(needed.__name__ for needed in self.kind.needs)
        raise InputError(f"check-hook: none of the tiny models has {needs}. Test the hook on a model that has it.")

    def adapter(self) -> Adapter:
        """Return the model that every run starts from."""
        return self._build_model(self._weights)

    @cached_property
    def _weights(self) -> str:
        """A weight file of the model, so that hooks that need pretrained weights find some."""
        from tlvision.engine.build import seed_everything
        from tlvision.training.checkpoint import save_weights

        path = self.folder / "weights.safetensors"
        seed_everything(0)
        save_weights(path, self._build_model("none").module.state_dict(), domain_classes("target"))
        return str(path)

    def _build_model(self, weights: str) -> Adapter:
        from tlvision.plugin import BuildSpec

        spec = BuildSpec(arch=self.arch, weights=weights, classes=domain_classes("target"), image_size=_IMAGE_SIZE)
        return self.plugin.build(spec)[0]

    def config(self, out: str, *, with_hook: bool = True) -> dict[str, Any]:
        """Return the config of a run of six steps into the folder `out` of the case."""
        hook, drawn = self.build(), _drawn_images()
        images = {"images": str(drawn / "images")}
        hooks: dict[str, dict[str, Any]] = {name: {} for name in ALWAYS}
        hooks["log"] = {"progress": "none", "tensorboard": "off", "every": 1}
        if hook.uses_teacher:
            hooks["ema"] = {"decay": 0.5, "warmup": 0}
        if with_hook and hook.uses_pseudo_labels:
            hooks["pseudo_labels"] = {"threshold": 0.01, "burn_in": 0.0, "ramp": 0.0}  # an untrained teacher reaches it
        if with_hook:
            hooks[self.name] = hooks.get(self.name, {}) | self.options
            if isinstance(hook, LearnsFromRun):
                hooks[self.name]["run"] = str(self.without)
        data: dict[str, Any] = {side: {"json": str(drawn / f"{side}.json"), **images} for side in ("train", "val")}
        data |= {"image_size": _IMAGE_SIZE, "workers": 0, "batch": {"labelled": 4}}
        if with_hook and hook.uses_unlabelled:
            data["batch"]["unlabelled"] = 4
        if with_hook and (hook.uses_unlabelled or hook.uses_target):
            data["target"] = images
        if "label_map" in get_task(self.plugin.task_of(self.arch)).labels:
            data["unlabelled"] = "background"
        return {
            "model": {"plugin": self.plugin.name, "arch": self.arch, "weights": self._weights},
            "data": data,
            "train": {"epochs": EPOCHS, "lr": 1e-3, "device": "cpu", "verify": "every_step"},
            "hooks": [{name: values} for name, values in hooks.items()],
            "run": {"out": str(self.folder / out)},
        }

    def parts(self) -> Run:
        """Build everything that a run with the hook is put together from, anew."""
        from tlvision.config.load import load_config
        from tlvision.engine.build import build_run

        return build_run(load_config(self.config("unused")))

    def session(self) -> Session:
        """Return a run with the hook that is about to take its first step."""
        from tlvision.engine.session import build_session
        from tlvision.training.fabric import make_fabric

        parts = self.parts()
        run = self.folder / "session"
        run.mkdir(exist_ok=True)
        return build_session(parts, run, make_fabric(parts.config.train))

    @cached_property
    def straight(self) -> Path:
        """The folder of a run with the hook that nothing interrupted."""
        return self._train(self.config("straight"))

    @cached_property
    def resumed(self) -> Path:
        """The folder of the same run, interrupted after a step and resumed."""
        config = self.config("resumed")
        try:
            self._train(config, Interrupt(step=INTERRUPTED_AT))
        except KeyboardInterrupt:
            return self._train({}, resume=Path(config["run"]["out"]))
        raise AssertionError(f"the run did not end with the interruption after step {INTERRUPTED_AT}")

    @cached_property
    def without(self) -> Path:
        """The folder of the same run without the hook."""
        return self._train(self.config("without", with_hook=False))

    @staticmethod
    def _train(config: dict[str, Any], *observers: ObserverHook, resume: Path | None = None) -> Path:
        import io
        from contextlib import redirect_stdout

        from tlvision.engine.train import train

        with redirect_stdout(io.StringIO()):  # the kit prints a table of its own
            return train(config, resume=resume, observers=observers).run


@cache
def _drawn_images() -> Path:
    """Draw ten images into a folder that is removed at the end of the process; every case uses them."""
    from tlvision.synthetic.inspection import render_inspection

    folder = Path(tempfile.mkdtemp(prefix="tlvision-drawn-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    render_inspection(folder, domain="target", train=8, val=2, seed=0)
    return folder


class Interrupt(ObserverHook):
    """Press Ctrl-C after a step."""

    def __init__(self, *, step: int) -> None:
        self.step = step

    def after_step(self, context: Context) -> None:
        """Raise the signal that Ctrl-C raises; the run saves its state and ends."""
        if context.step == self.step:
            signal.raise_signal(signal.SIGINT)
