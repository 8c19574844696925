"""Hooks in a hand-written training loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tlvision.bridges.hooks import HookSpec
from tlvision.bridges.losses import Arguments, Call, Losses
from tlvision.bridges.run import BridgeReport, BridgeRun, ModelParts
from tlvision.hooks import Duration
from tlvision.plugin import LayerGroup, Tap
from tlvision.types import InputError, InputSpec, RunError

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    import torch
    from torch import Tensor, nn

TRAINER = "a hand-written loop"
_TWO_LENGTHS = Duration(10_000, 10_000), Duration(20_000, 20_000)


class Step:
    """Adds the losses of hooks to the loss of a batch: `loss = step(loss)`.

    report: the proof, once the with-block has ended; None before.
    """

    def __init__(self, run: BridgeRun) -> None:
        self._run = run
        self._losses: Losses = {}

    @property
    def report(self) -> BridgeReport | None:
        """Return the proof, once the with-block has ended."""
        return self._run.report

    def __call__(self, loss: Tensor) -> Tensor:
        """Return `loss`, 0-d, plus the losses of the hooks for the model's last forward pass."""
        total = loss + sum(self._losses.values())
        self._losses = {}
        return total

    def averaged(self) -> AbstractContextManager[None]:
        """Let the model have the averaged weights of the hook `ema` inside a with-block, to evaluate or save them."""
        return self._run.averaged()

    def keep(self, losses: Losses) -> None:
        """Keep the hooks' losses until the loop asks for them."""
        self._losses = losses

    def check(self) -> None:
        """Raise RunError if the losses of hooks have not been added to the loss."""
        if self._losses:
            raise RunError(
                f"hooks: the losses {', '.join(self._losses)} are not in the loss that was trained. Write "
                "`loss = step(loss)` before `loss.backward()`."
            )


@contextmanager
def plain(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: Sequence[HookSpec],
    *,
    epochs: int | None = None,
    steps_per_epoch: int | None = None,
    groups: Sequence[LayerGroup] | None = None,
    taps: Sequence[Tap] = (),
    new: Sequence[str] = (),
    input_spec: InputSpec | None = None,
) -> Iterator[Step]:
    """Train `model` with `hooks` inside the with-block, in a loop of your own; docs/bridges.md.

    optimizer: of all parameters that are to be trained, without a learning-rate schedule: build that inside the block.
               Its groups are split by layer group, and what is frozen for good leaves it.
    hooks:     as in a config: `["ema", {"freeze": {"roles": ["stem"]}}]`, or built hooks.
    epochs, steps_per_epoch: length of the run in optimizer steps, for hooks that depend on it (`gradual_unfreeze`).
    groups, taps, new, input_spec: see `tlvision.bridges.run.ModelParts`.

    Yields a `Step`. With hooks that add losses, write `loss = step(loss)`; other hooks need nothing in the loop.

    Raises InputError if a hook does not work here, and RunError (at the latest at the end of the block) if something
    frozen has changed.

    >>> import torch
    >>> model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 1))
    >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    >>> with plain(model, optimizer, [{"freeze": {"groups": ["0"]}}]) as step:
    ...     for _ in range(3):
    ...         loss = step(model(torch.ones(2, 4)).sum())
    ...         loss.backward()
    ...         optimizer.step()
    ...         optimizer.zero_grad()
    >>> print(step.report)
    tlvision: proved in a hand-written loop
    step 0: 3 steps, 2 frozen tensors bit-equal, in eval mode, without gradient, graph or optimizer state
    """
    parts = ModelParts(groups=groups, taps=taps, new=new, input_spec=input_spec)
    run = BridgeRun(model, hooks, trainer=TRAINER, parts=parts)
    step = Step(run)

    def keep(output: Any, losses: Losses, args: Arguments, kwargs: Mapping[str, Any]) -> Any:
        step.keep(losses)
        return output

    duration = _duration(run, epochs, steps_per_epoch)
    run.set_up(optimizer, duration)
    run.start(optimizer, duration, Call(add=keep))
    optimizer_hooks = [
        optimizer.register_step_pre_hook(lambda *_: step.check()),
        optimizer.register_step_post_hook(lambda *_: run.begin(run.context.step)),
    ]
    try:
        yield step
        run.finish()
    finally:
        for handle in optimizer_hooks:
            handle.remove()
        run.close()


def _duration(run: BridgeRun, epochs: int | None, steps_per_epoch: int | None) -> Duration:
    if epochs is not None and steps_per_epoch is not None:
        return Duration(epochs, steps_per_epoch)
    first, second = (run.plan(duration).parameters for duration in _TWO_LENGTHS)
    if first != second:
        raise InputError("plain: a hook depends on the length of the run. Set epochs and steps_per_epoch.")
    return _TWO_LENGTHS[1]
