"""One run in the trainer of another library: plan, optimizer groups, modes, losses and proof, driven by a bridge.

    run = BridgeRun(model, hooks, trainer="…")
    run.set_up(optimizer, duration)      # before a learning-rate schedule is built on the optimizer
    run.start(optimizer, call)           # weights are loaded
    run.begin(step)                      # before each step of the trainer, counted as it counts
    report = run.finish()

Everything else hangs on two calls that every trainer makes: the model's forward pass and the optimizer's step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tlvision.bridges.hooks import HookSpec, build_hooks
from tlvision.bridges.losses import Call, HookLosses
from tlvision.bridges.models import find_adapter
from tlvision.bridges.optimizer import rates, regroup, rewarm_of_groups
from tlvision.bridges.proof import RunProof
from tlvision.engine.compatibility import check_taps
from tlvision.engine.run_model import open_run_model
from tlvision.hooks import Context, Duration, Hook, ObjectiveHook, ObserverHook, Plan, SetupHook, initial_plan
from tlvision.hooks.generators import own_generators
from tlvision.hooks.run_model import LearnsFromRun
from tlvision.inference.predict import using_weights
from tlvision.plugin import Adapter, LayerGroup, Tap, WeightReport, map_groups
from tlvision.training.optim import check_trained
from tlvision.training.state import keeps_state
from tlvision.types import ClassMap, InputError, InputSpec, counted

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from tlvision.bridges.proof import Averaged
    from tlvision.engine.verify import PhaseProof


@dataclass(frozen=True, slots=True, kw_only=True)
class BridgeReport:
    """The proof of a run in another trainer, and how its parameters were trained.

    trainer: name of the trainer.
    phases:  the proof of each phase: its first step, its number of steps, its number of frozen tensors.
    ledger:  `{parameter name: (learning rate, weight decay)}` as the optimizer had them at the start, without those
             that are frozen for the whole run.
    """

    trainer: str
    phases: tuple[PhaseProof, ...]
    ledger: Mapping[str, tuple[float, float]]

    def __str__(self) -> str:
        rows = [
            f"step {phase.first}: {counted(phase.steps, 'step')}, {counted(phase.frozen, 'frozen tensor')} bit-equal, "
            "in eval mode, without gradient, graph or optimizer state"
            for phase in self.phases
        ]
        return "\n".join([f"tlvision: proved in {self.trainer}", *rows])


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelParts:
    """What a bridge cannot find out about a model by itself.

    groups: its layer groups; None takes those of the plugin that knows it, or one group for each child module.
    taps:   places for hooks that compare features, for models that no plugin knows.
    new:    globs of parameters that are not pretrained, such as those of a new head, for hooks that stay near the
            pretrained weights. All others count as pretrained, with the values that they have when training starts.
    input_spec: how the images are normalised that the model is given, for hooks that show them to another model
            (`distill`). mean, std, channel_order and value_range count.
    """

    groups: Sequence[LayerGroup] | None = None
    taps: Sequence[Tap] = ()
    new: Sequence[str] = ()
    input_spec: InputSpec | None = None


class BridgeRun:
    """The hooks of one run in another trainer; see the head of this file.

    module:  the model that is trained, not wrapped.
    specs:   hooks as in a config, or built ones.
    trainer: name of the trainer, for messages.
    adapter: groups, taps and features of `module`; None finds them by `parts`.

    Raises InputError if a hook needs what only tlvision's own trainer has, or the run has several processes.
    """

    def __init__(
        self,
        module: nn.Module,
        specs: Sequence[HookSpec],
        *,
        trainer: str,
        parts: ModelParts | None = None,
        adapter: Adapter | None = None,
    ) -> None:
        parts = parts or ModelParts()
        _require_one_process(trainer)
        self.module, self.trainer = module, trainer
        self.hooks = build_hooks(specs, trainer)
        self.adapter = adapter or find_adapter(module, parts.groups, parts.taps)
        if parts.input_spec is not None:
            given: Any = self.adapter
            given.input_spec = parts.input_spec
        for hook in self.hooks:
            self._prepare(hook, parts)
        groups = map_groups(module, self.adapter.groups)
        new = {name for pattern in parts.new for name in groups.matching(pattern)}
        self._weights = WeightReport(
            source=f"those that {trainer} starts from",
            loaded=tuple(name for name in groups.parameters if name not in new),
            missing=tuple(sorted(new)),
        )
        self._untouched = initial_plan(module, groups, Duration(1, 1))
        self._handles: list[Any] = []
        self._pass = ExitStack()
        self._proof: RunProof | None = None
        self._restored: set[str] = set()
        self.started = False
        self.report: BridgeReport | None = None

    def plan(self, duration: Duration) -> Plan:
        """Return what is trained when in a run of this length, in steps as the trainer counts them."""
        plan = replace(self._untouched, duration=duration)
        for hook in self.hooks:
            if isinstance(hook, SetupHook):
                plan = hook.setup(plan)
                if plan.schedule is not None:
                    raise InputError(
                        f"hooks: '{hook.key()}' sets the learning-rate schedule, which is that of {self.trainer}. Set "
                        "the schedule there, and remove the hook."
                    )
        starts = (row.trainable_from for row in plan.parameters.values())
        check_trained(start for start in starts if start is not None)
        return plan

    def set_up(self, optimizer: torch.optim.Optimizer, duration: Duration) -> None:
        """Put the plan into the optimizer, and the modules of hooks; see `regroup`."""
        regroup(optimizer, self.module, self.plan(duration))
        device = next(self.module.parameters()).device
        for module in self._hook_modules().values():
            optimizer.add_param_group({"params": list(module.to(device).parameters())})

    def start(
        self,
        optimizer: torch.optim.Optimizer,
        duration: Duration,
        call: Call,
        *,
        step: int = 0,
        averaged: Averaged | None = None,
    ) -> None:
        """Begin the run at `step`, with all weights loaded.

        averaged: returns averaged weights of the trainer's own that are to be proved as well; None: those of `ema`.

        Raises InputError if the run goes on at a later step and a hook has a state that nobody has restored.
        """
        plan = self.plan(duration)
        self.optimizer, self._call = optimizer, call
        self._refuse_lost_state(step)
        self.context = Context(
            adapter=self.adapter,
            plan=plan,
            classes=ClassMap((), ()),
            weights=self._weights,
            run_dir=Path(),
            is_main=True,
            duration=duration,
            select="",
            step=step,
        )
        for hook in self.hooks:
            hook.before_fit(self.context)
        self._ledger = rates(optimizer, self.module)
        self._rewarm = rewarm_of_groups(optimizer, self.module, plan)
        self._hook_losses = HookLosses(self.context, self.hooks)
        self._proof = RunProof(self.module, plan, optimizer, self.trainer, averaged or self.averaged_state)
        self._handles = [
            self.module.register_forward_pre_hook(self._before_forward(), with_kwargs=True),
            self.module.register_forward_hook(self._after_forward(), with_kwargs=True),
            optimizer.register_step_pre_hook(lambda *_: self._before_optimizer()),
            optimizer.register_step_post_hook(lambda *_: self._after_optimizer()),
        ]
        self._epoch = -1
        self.started = True
        self.begin(step)

    def begin(self, step: int) -> None:
        """Prepare for `step`. Raises RunError if what was frozen until now has changed."""
        assert self._proof is not None, "start() comes first"
        self.context.step = step
        self._proof.begin(min(step, self.context.duration.total_steps - 1))
        if self._epoch != self.context.epoch:
            self._epoch = self.context.epoch
            self._call_hooks("before_epoch")
        self._call_hooks("before_step")

    def finish(self, end: int | None = None) -> BridgeReport:
        """End the run and return its proof; the model is then as upstream leaves it. Raises RunError if it fails.

        end: the number of steps taken, as the trainer counts; None: one for each step of the optimizer.
        """
        assert self._proof is not None, "start() comes first"
        try:
            phases = self._proof.close(self.context.step if end is None else end)
            self._call_hooks("after_fit")
            self.report = BridgeReport(trainer=self.trainer, phases=phases, ledger=self._ledger)
            return self.report
        finally:
            self.close()

    def close(self) -> None:
        """Take everything off the model and the optimizer, also after an error."""
        self._pass.close()
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if self._proof is not None:
            self._proof.release()
            self._proof = None

    def averaged_state(self) -> Mapping[str, Tensor] | None:
        """Return the averaged weights of the hook `ema` by state-dict name; None without it."""
        offers = [hook.evaluation_weights() for hook in self.hooks if isinstance(hook, ObserverHook)]
        return next((offer for offer in offers if offer is not None), None)

    @property
    def averages(self) -> bool:
        """Whether a hook keeps an average of the weights."""
        return any(isinstance(hook, ObserverHook) for hook in self.hooks)

    @property
    def adds_losses(self) -> bool:
        """Whether a hook adds losses."""
        return any(isinstance(hook, ObjectiveHook) for hook in self.hooks)

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Let the model have the averaged weights of the hook `ema` inside the with-block; its own without the hook."""
        with using_weights(self.module, self.averaged_state()):
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return the states of hooks, by key, for a run that is to be resumed."""
        modules = self._hook_modules()
        return {
            hook.key(): {
                "hook": hook.state_dict(),
                "module": modules[hook.key()].state_dict() if hook.key() in modules else {},
            }
            for hook in self.hooks
            if keeps_state(hook)
        }

    def load_state_dict(self, states: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned, before `start`."""
        modules = self._hook_modules()
        for hook in self.hooks:
            if hook.key() in states:
                hook.load_state_dict(states[hook.key()]["hook"])
            if hook.key() in states and hook.key() in modules:
                modules[hook.key()].load_state_dict(states[hook.key()]["module"])
        self._restored = set(states)

    def _prepare(self, hook: Hook, parts: ModelParts) -> None:
        if not isinstance(hook, ObjectiveHook | SetupHook):
            return
        if isinstance(hook, ObjectiveHook) and hook.reads_input_spec and parts.input_spec is None:
            raise InputError(
                f"hooks: '{hook.key()}' has to know how images are normalised, which {self.trainer} does not tell. "
                "Give input_spec=tlvision.types.InputSpec(mean=…, std=…) of your images."
            )
        if isinstance(hook, LearnsFromRun):
            hook.open_run(open_run_model(hook.run, None, hook.key()))
        with own_generators("prepare", hook.key()):
            hook.prepare(self.adapter)
        check_taps(hook, self.adapter)

    def _hook_modules(self) -> dict[str, nn.Module]:
        """Return the modules of hooks that are trained with the model, by key."""
        objectives = [hook for hook in self.hooks if isinstance(hook, ObjectiveHook)]
        return {hook.key(): hook.module for hook in objectives if hook.module is not None}

    def _refuse_lost_state(self, step: int) -> None:
        lost = [hook.key() for hook in self.hooks if keeps_state(hook) and hook.key() not in self._restored]
        if step > 0 and lost:
            raise InputError(
                f"hooks: '{lost[0]}' has a state that the checkpoint of {self.trainer} does not hold, so a run with it "
                "cannot be resumed. Start the run again, or remove the hook."
            )

    def _call_hooks(self, moment: str) -> None:
        for hook in self.hooks:
            getattr(hook, moment)(self.context)

    def _before_forward(self) -> Any:
        """Return a function, no method: copies of the model that upstream makes must not copy the run as well."""

        def before(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            import torch

            if module is not self.module or not module.training or self._proof is None or not torch.is_grad_enabled():
                return
            self._pass.close()  # of a pass that has failed
            self._proof.freeze()
            self._pass.enter_context(self._proof.watching())
            if self._call.is_loss(args, kwargs):
                self._hook_losses.begin(self._call.images(args, kwargs))

        return before

    def _after_forward(self) -> Any:
        def after(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
            import torch

            if module is not self.module or not module.training or self._proof is None or not torch.is_grad_enabled():
                return None
            self._pass.close()
            if not self._call.is_loss(args, kwargs):
                return None
            losses = self._hook_losses.end()
            return self._call.add(output, losses, args, kwargs) if losses else None

        return after

    def _before_optimizer(self) -> None:
        assert self._proof is not None
        self._proof.check_gradients()
        self._call_hooks("after_backward")
        self._rates = [group["lr"] for group in self.optimizer.param_groups]
        for group, (since, rewarm) in zip(self.optimizer.param_groups, self._rewarm, strict=True):
            if rewarm:
                group["lr"] *= min(max(self.context.step - since + 1, 0) / rewarm, 1.0)

    def _after_optimizer(self) -> None:
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate  # schedules of some trainers go on from the rate that they find
        for module in self._hook_modules().values():
            module.zero_grad()  # some trainers clear the gradients of the model alone
        self.context.step += 1
        self._call_hooks("after_step")


def _require_one_process(trainer: str) -> None:
    import torch

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        world = torch.distributed.get_world_size()
        if world > 1:
            raise InputError(
                f"{trainer}: the bridge works in one process, and this run has {world}, whose wrappers decide before "
                "the first step which gradients are averaged. Train in one process, or with tlvision and torchrun."
            )
