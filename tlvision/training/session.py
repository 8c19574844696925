"""Everything one run consists of, tied together for the loop: the context of the hooks, and the rest."""

from __future__ import annotations

import operator
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tlvision.data.batches import eval_batches, normalise, train_batches
from tlvision.files.atomic import atomic_folder
from tlvision.files.json_files import write_json
from tlvision.hooks import ModelHook, ObjectiveHook, ObserverHook
from tlvision.inference.domain_evaluator import DomainEvaluator
from tlvision.inference.evaluator import Evaluator
from tlvision.training import checkpoint, manifest
from tlvision.training.modes import Modes
from tlvision.training.state import FORMAT, keeps_state
from tlvision.training.verify import Verifier
from tlvision.types import InputError, RunError

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from torch import Tensor

    from tlvision.data.batches import Batch
    from tlvision.data.train_images import TrainImages
    from tlvision.data.unlabelled import UnlabelledImages
    from tlvision.hooks import Context, Hook
    from tlvision.training.settings import TrainSettings


@dataclass(slots=True, kw_only=True)
class Session:
    """One run.

    batch_size:     labelled images in one micro-batch of one process.
    unlabelled, unlabelled_size: unlabelled images, and how many of them a micro-batch has.
    mosaic_until:   the step from which mosaic is off.
    evaluate_every: epochs between evaluations; the last epoch is always evaluated.
    origin:         name -> text of files that go into checkpoints/last, to be compared on resume: the run's config and
                    environment.
    has_targets:    whether any batch since the start (or the resume) had something labelled in it.
    closed_epochs:  epochs whose evaluation and after_epoch are done; a run may be killed between the two.
    until:          epoch after which the run stops, to be resumed later; None for its end.
    """

    fabric: Fabric
    context: Context
    hooks: list[Hook]
    settings: TrainSettings
    optimizer: torch.optim.Optimizer
    images: TrainImages
    unlabelled: UnlabelledImages | None = None
    unlabelled_size: int = 0
    evaluator: Evaluator | DomainEvaluator
    batch_size: int
    workers: int
    mosaic_until: int
    evaluate_every: int
    origin: dict[str, str] = field(default_factory=dict)
    stopped: str | None = None
    closed_epochs: int = 0
    until: int | None = None
    has_targets: bool = False
    verifier: Verifier = field(init=False)
    _interrupt: threading.Event = field(default_factory=threading.Event)
    _named: dict[int, str] = field(default_factory=dict)
    _modes: tuple[int, Modes] | None = None
    _requested: list[str] = field(default_factory=list)
    _adapted: tuple[int, Mapping[str, Tensor] | None] | None = None

    def __post_init__(self) -> None:
        self.context.save, self.context.stop = self._request_save, self.stop
        self.context.wants_teacher = any(hook.uses_teacher for hook in self.hooks)
        self.context.unlabelled_batches = self.unlabelled_batches
        module, plan = self.context.adapter.module, self.context.plan
        self.verifier = Verifier(module, plan, self.optimizer, self.settings.verify, self._evaluation_weights)
        keys = [hook.key() for hook in self.hooks]
        twice = {key for key in keys if keys.count(key) > 1}
        if twice:
            raise InputError(f"hooks: '{min(twice)}' is listed more than once; a run has one of each")
        self._named = {id(p): name for name, p in self.context.adapter.module.named_parameters()}
        for hook in self.hooks:
            if isinstance(hook, ObjectiveHook) and hook.module is not None:
                self._named |= {id(p): f"hook.{hook.key()}.{name}" for name, p in hook.module.named_parameters()}

    def call(self, moment: str) -> None:
        """Call one moment of every hook, in the order of the config, then write the checkpoints that they requested."""
        for hook in self.hooks:
            getattr(hook, moment)(self.context)
        for name in self._requested:
            self.save(name)
        self._requested.clear()

    def _request_save(self, name: str) -> None:
        """Queue a checkpoint. It is written after all hooks have run, as later hooks may change their state."""
        if name not in self._requested:
            self._requested.append(name)

    def call_close(self) -> None:
        """Close every hook, also if an earlier one fails to close."""
        errors = []
        for hook in self.hooks:
            try:
                hook.close()
            except Exception as error:  # all are closed first, then the first error is raised
                errors.append(error)
        if errors:
            raise errors[0]

    def modes(self) -> Modes:
        """Return the trained parameters of the current step; computed once for each phase."""
        context = self.context
        phase = max(boundary for boundary in context.plan.boundaries() if boundary <= context.step)
        if self._modes is None or self._modes[0] != phase:
            self._modes = phase, Modes(context.adapter.module, context.plan, phase)
        return self._modes[1]

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """Yield the micro-batches of the steps first..last - 1 for this process."""
        return iter(
            train_batches(
                self.images,
                batch_size=self.batch_size,
                first_step=first,
                last_step=last,
                accumulate=self.settings.accumulate,
                rank=self.fabric.global_rank,
                world=self.fabric.world_size,
                mosaic=partial(operator.gt, self.mosaic_until),  # no lambda: it travels to spawned processes
                unlabelled=self.unlabelled if self.unlabelled_size else None,
                unlabelled_size=self.unlabelled_size,
                workers=self.workers,
                pin=self.fabric.device.type == "cuda",
            )
        )

    def unlabelled_batches(self) -> Iterator[Tensor]:
        """Yield all unlabelled images once, normalised, in batches of one shape; see `Context`."""
        if self.unlabelled is None:
            raise InputError("data.target: a hook needs unlabelled images, but the config has none")
        images = self.unlabelled.for_evaluation()
        pin = self.fabric.device.type == "cuda"
        for batch in eval_batches(images, batch_size=self.batch_size, workers=self.workers, pin=pin):
            yield normalise(batch.to(self.fabric.device).images, self.context.adapter.input_spec)

    def check_targets(self, first_step: int) -> None:
        """Raise RunError if a whole epoch from `first_step` on had nothing to learn from in any of its inputs."""
        if self.context.step - first_step < self.context.duration.steps_per_epoch:
            return
        if self._in_any_process(self.has_targets):  # together, or the others would wait for the one that has none
            return
        raise RunError(
            f"nothing was learned: none of the {self.context.images_seen} network inputs of the first epoch has an "
            "object or a labelled pixel. Look at data.image_size (objects of 2 px or less are left out), "
            "data.augment.crop (windows without objects) and the labels"
        )

    def stop(self, reason: str) -> None:
        """End the run after the current epoch."""
        self.stopped = reason

    @property
    def paused(self) -> bool:
        """Return whether the run is to stop here, after epoch `until`, and to be resumed later."""
        return self.until is not None and self.until <= self.closed_epochs < self.context.duration.epochs

    def interrupted(self) -> bool:
        """Return whether Ctrl-C was pressed in any process."""
        return self._in_any_process(self._interrupt.is_set())

    def _in_any_process(self, here: bool) -> bool:
        if self.fabric.world_size == 1:
            return here
        flag = torch.tensor(float(here), device=self.fabric.device)
        torch.distributed.all_reduce(flag)
        return bool(flag.item() > 0)

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Let the first Ctrl-C (or SIGTERM) end the run after the current step; the second one kills it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: object) -> None:
            if self._interrupt.is_set():
                raise KeyboardInterrupt
            self._interrupt.set()

        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def evaluation_is_due(self) -> bool:
        """Return whether the epoch that has just ended is to be evaluated; the last one always is."""
        epoch, epochs = self.context.epoch, self.context.duration.epochs
        return epoch % self.evaluate_every == 0 or epoch == epochs or self.stopped is not None

    def evaluate(self) -> None:
        """Evaluate with the weights that an observer offers (ema), else with the trained ones."""
        metrics = self.evaluator.evaluate(self.context.adapter, self._adapted_weights())
        if self.context.select not in metrics:
            raise InputError(
                f"evaluate.select: '{self.context.select}' cannot be measured on {self.evaluator.data.path}, which has "
                f"no object of that kind; choose one of {', '.join(metrics)}"
            )
        self.context.metrics = metrics

    def _evaluation_weights(self) -> dict[str, torch.Tensor] | None:
        offers = [hook.evaluation_weights() for hook in self.hooks if isinstance(hook, ObserverHook)]
        offered = [dict(offer) for offer in offers if offer is not None]
        if len(offered) > 1:
            raise InputError("hooks: two hooks offer weights for evaluation; keep one of them")
        return offered[0] if offered else None

    def _adapted_weights(self) -> Mapping[str, Tensor] | None:
        """Return the weights for an evaluation at the current step, after the changes by hooks."""
        step = self.context.step
        if self._adapted is None or self._adapted[0] != step:
            offered = self._evaluation_weights()
            start: Mapping[str, Tensor] = offered or self.context.adapter.module.state_dict()
            weights = start
            for hook in self.hooks:
                if isinstance(hook, ObserverHook):
                    weights = hook.adapt_weights(self.context, weights)
            self._adapted = step, offered if weights is start else weights
        return self._adapted[1]

    def save(self, name: str) -> None:
        """Write `checkpoints/<name>`: "last" to go on from, "best" to use."""
        per_rank = self._gather_random_states()
        if not self.context.is_main:
            return
        with atomic_folder(self.context.run_dir / "checkpoints" / name) as folder:
            module = self.context.adapter.module
            state = self._state()
            if name == "best":
                weights = self._adapted_weights() or module.state_dict()
                checkpoint.save_weights(folder / checkpoint.MODEL, weights, self.context.classes)
                self.evaluator.copy_results(folder)
            else:
                checkpoint.save_weights(folder / checkpoint.MODEL, module.state_dict(), self.context.classes)
                state["hooks"] = self._save_training_state(folder, per_rank)
                for file, text in self.origin.items():
                    (folder / file).write_text(text, encoding="utf-8")
            write_json(folder / "classes.json", self.context.classes.to_json(), indent=1)
            write_json(folder / "state.json", state, indent=1, nan="keep")  # what is restored must be the same number
            manifest.write_manifest(folder)

    def _state(self) -> dict[str, Any]:
        context = self.context
        return {
            "format": FORMAT,
            "step": context.step,
            "steps_per_epoch": context.duration.steps_per_epoch,
            "closed_epochs": self.closed_epochs,
            "select": context.select,
            "best": context.best,
            "metrics": context.metrics,
            "images_seen": context.images_seen,
            "stopped": self.stopped,
            "model_hooks": [hook.key() for hook in self.hooks if isinstance(hook, ModelHook)],
        }

    def _save_training_state(self, folder: Path, per_rank: list[dict[str, Any]]) -> list[str]:
        """Write optimizer, hooks and random generators; return the keys of the hooks that have a state."""
        checkpoint.save_tensors(
            folder / "optimizer.safetensors", checkpoint.optimizer_state(self.optimizer, self._named)
        )
        written = []
        for hook in self.hooks:
            state = hook.state_dict()
            if isinstance(hook, ObjectiveHook) and hook.module is not None:
                state |= {f"module.{name}": tensor for name, tensor in hook.module.state_dict().items()}
            if state or keeps_state(hook):
                checkpoint.save_tensors(folder / f"hook.{hook.key()}.safetensors", state)
                written.append(hook.key())
        for rank, state in enumerate(per_rank):
            checkpoint.save_tensors(folder / f"random.{rank}.safetensors", state)
        return written

    def _gather_random_states(self) -> list[dict[str, Any]]:
        own = checkpoint.random_state()
        if self.fabric.world_size == 1:
            return [own]
        states: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(states, own)
        return states

    def restore_optimizer(self, saved: Mapping[str, Any], *, changed: bool) -> None:
        """Put back the optimizer's state by parameter name.

        changed: whether state of hooks that the run no longer has is left out, rather than an error.

        Raises InputError if a parameter that was trained is frozen now.
        """
        rows, step = self.context.plan.parameters, self.context.step
        frozen = sorted({key.rpartition("|")[0] for key in saved} & {n for n in rows if not rows[n].trainable_at(step)})
        if frozen:
            raise InputError(
                f"--resume: '{frozen[0]}' has been trained, so it cannot be frozen now: its average (ema) would never "
                "reach it. Freeze less, or start a new run."
            )
        checkpoint.load_optimizer_state(self.optimizer, self._named, saved, skip_unknown=changed)
