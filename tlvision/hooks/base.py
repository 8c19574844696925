"""Base classes of hooks, and the context that hooks read.

A hook's typed, keyword-only `__init__` is its schema in the config; its name there is its class name in snake_case.
It derives from one of the five kinds below and overrides the moments it needs. Order is the order in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from tlvision.hooks.plan import Duration, Plan
from tlvision.types import ClassMap, InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor, nn

    from tlvision.data.batches import Batch, Views
    from tlvision.hooks.pseudo_labels.targets import PseudoTargets
    from tlvision.hooks.side_pass import Buffers
    from tlvision.plugin import Adapter, WeightReport


def _outside_a_run(_: str) -> None:
    raise RuntimeError("save and stop work only in a session; Session binds them")


def _no_unlabelled_images() -> Iterator[Tensor]:
    raise RuntimeError("this run has no unlabelled images; Session binds them")


@dataclass(slots=True, kw_only=True)
class StepData:
    """Data of one micro-batch of this process; a new object for each.

    batch:     the micro-batch, on the device.
    images:    its images as the adapter gets them, (N, 3, H, W) float32, normalised.
    features:  `{tap name: tensor}` of labelled images, for the taps that hooks need: from the forward pass of
               `adapter.loss`; for a hook with `uses_unlabelled`, of the first images of the batch, as many as
               there are unlabelled ones, from a pass like that of `unlabelled_features`, so that the two compare.
    unlabelled: two views of the unlabelled images of the micro-batch, normalised like `images`, for hooks with
               `uses_unlabelled`; None if the run has none.
    unlabelled_features: the same taps of the weak views, from a pass with gradients that computes as evaluation will
               (running statistics, no dropout) and leaves no trace; see `tlvision.hooks.side_pass`.
    pyramid, unlabelled_pyramid: what `HasInstanceFeatures.instance_features` takes as `pyramid`, of the images that
               these features are of, from the same passes, for hooks with `uses_pyramid`; None if there is none.
    buffers, generators: the model's buffers and the random generators as they were before the micro-batch, for side
               passes; None if no hook needs them.
    cache:     values shared by hooks within the micro-batch, such as the teacher's predictions.
    """

    batch: Batch
    images: Tensor
    features: Mapping[str, Tensor] = field(default_factory=dict)
    unlabelled: Views | None = None
    unlabelled_features: Mapping[str, Tensor] = field(default_factory=dict)
    pyramid: Any = None
    unlabelled_pyramid: Any = None
    buffers: Buffers | None = None
    generators: Any = None
    cache: dict[str, Any] = field(default_factory=dict)


class PseudoLabelSource(Protocol):
    """The teacher's pseudo-labels of each micro-batch; the hook `pseudo_labels` is one."""

    def weight(self, context: Context) -> float | None:
        """Return the weight of pseudo-labels at the current step, 0..1; None during the burn-in."""
        ...

    def targets(self, context: Context, hook: str, threshold: float | None = None) -> PseudoTargets:
        """Return the pseudo-labels of the current micro-batch.

        hook:      the key of the hook that learns from them.
        threshold: 0..1, in the place of the setting `threshold`, for this hook only.
        """
        ...


@dataclass(slots=True, kw_only=True)
class Context:
    """The state of a run that hooks can read; they never see the loop itself.

    adapter, plan, classes: the model, the plan of what is trained when, and the classes.
    weights:   which weights were loaded when the run started; on resume all of them, from the checkpoint.
    run_dir:   the run's folder.
    is_main:   True in the one process that may write files and print.
    duration:  length of the run in epochs and steps.
    step:      optimizer steps finished so far; in before_step..after_backward the number of the current one, from 0.
    step_data: data of the current micro-batch; reading it outside a step is a RuntimeError.
    teacher:   a second model, the moving average of the first, in eval mode; the hook `ema` keeps it if another hook
               has `uses_teacher`.
    wants_teacher: whether one does.
    pseudo_labels: the teacher's pseudo-labels for hooks with `uses_pseudo_labels`; the hook `pseudo_labels` sets it.
    unlabelled_batches: yields all unlabelled images of the run once, whole and with nothing random about them, in
               batches like `images`.
    losses:    the losses of the last step as floats, weights applied, averaged over micro-batches.
    measures:  numbers of the current step that hooks write into log.jsonl next to the losses; emptied after each.
    notices:   sentences for the user; the hook `log` prints and writes them after the step, and empties the list.
    lr:        the scheduled learning rate of a parameter with lr_scale 1, in the current step.
    images_seen: labelled images that this run has trained on since it (re)started, all processes together.
    metrics:   the last evaluation, flat: {"bbox/AP": 0.61, …}; empty before the first.
    losses_mean: the losses averaged over the current epoch so far.
    select:    the metric that chooses the best checkpoint.
    higher_is_better: the direction of that metric.
    best:      the best value of it so far, or None.
    save:      save("last") or save("best") has a checkpoint folder written, atomically, in the main process, once all
               hooks have had the current moment.
    stop:      stop("reason") ends the run after this epoch.
    """

    adapter: Adapter
    plan: Plan
    classes: ClassMap
    weights: WeightReport
    run_dir: Path
    is_main: bool
    duration: Duration
    select: str
    higher_is_better: bool = True
    save: Callable[[str], None] = _outside_a_run
    stop: Callable[[str], None] = _outside_a_run
    step: int = 0
    teacher: Adapter | None = None
    wants_teacher: bool = False
    pseudo_labels: PseudoLabelSource | None = None
    unlabelled_batches: Callable[[], Iterator[Tensor]] = _no_unlabelled_images
    losses: dict[str, float] = field(default_factory=dict)
    losses_mean: dict[str, float] = field(default_factory=dict)
    measures: dict[str, float] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    lr: float = 0.0
    images_seen: int = 0
    metrics: dict[str, float] = field(default_factory=dict)
    best: float | None = None
    _step_data: StepData | None = field(default=None, init=False, repr=False)

    @property
    def step_data(self) -> StepData:
        """Return what belongs to the current micro-batch; RuntimeError outside a step."""
        if self._step_data is None:
            raise RuntimeError("context.step_data exists only within a step")
        return self._step_data

    @step_data.setter
    def step_data(self, value: StepData | None) -> None:
        self._step_data = value

    @property
    def epoch(self) -> int:
        """Return the number of epochs finished, from 0; within an epoch, the current one."""
        return min(self.step // self.duration.steps_per_epoch, self.duration.epochs)

    def gain(self, value: float, over: float) -> float:
        """Return how much better `value` of the metric `select` is than `over`; negative if it is worse."""
        return value - over if self.higher_is_better else over - value

    @property
    def progress(self) -> float:
        """Return how much of the run is done, 0.0 to 1.0."""
        return self.step / self.duration.total_steps


class Hook:
    """The moments of a run, all empty. Derive from one of the five kinds, `ModelHook` to `ObserverHook`."""

    needs: tuple[type, ...] = ()
    """Capability Protocols that the adapter must have, checked before any step."""
    uses_target: bool = False
    """Whether it needs `data.target`, the unlabelled images; a run without them is then refused."""
    uses_unlabelled: bool = False
    """Whether it needs unlabelled images in each batch; a run with `data.batch.unlabelled: 0` is then refused."""
    uses_teacher: bool = False
    """Whether it needs `context.teacher`; a run without the hook `ema` is then refused."""
    uses_pseudo_labels: bool = False
    """Whether it needs `context.pseudo_labels`; a run without the hook `pseudo_labels` is then refused."""
    packages: Mapping[str, str] = MappingProxyType({})
    """Optional packages that a run with it imports, and the command that installs each; checked before any step."""

    @classmethod
    def key(cls) -> str:
        """Return the hook's name in a config: its class name in snake_case."""
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def before_fit(self, context: Context) -> None:
        """Called once, before the first step, with everything built (and restored, on resume)."""

    def before_epoch(self, context: Context) -> None:
        """Called before the first step of every epoch, and again where a run is resumed within one."""

    def before_step(self, context: Context) -> None:
        """Called before the forward pass of every optimizer step."""

    def after_backward(self, context: Context) -> None:
        """Called when the gradients are complete: accumulated, reduced over processes, clipped."""

    def after_step(self, context: Context) -> None:
        """Called after the optimizer has stepped; `context.step` counts this step already."""

    def after_evaluation(self, context: Context) -> None:
        """Called after every evaluation, with `context.metrics` fresh."""

    def after_epoch(self, context: Context) -> None:
        """Called at the end of every epoch, after its evaluation, so that a saved checkpoint has the result."""

    def after_fit(self, context: Context) -> None:
        """Called once at the end, also after an early stop, not after an error."""

    def close(self) -> None:
        """Called last in training, also after an error: close files and release the terminal."""

    def after_run(self, context: Context) -> None:
        """Called after `close`, in the main process, with the run's folder complete; not after an error or Ctrl-C."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a resumed run needs: JSON values, or tensors by name."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""


class ModelHook(Hook):
    """Changes modules of the model, before layer groups and plan exist.

    The core calls it whenever it builds the model: for a run, to resume one, to evaluate and to predict. The
    parameters that it adds are in the layer group of the module that they belong to, are trained by the run's
    optimizer unless a hook freezes them, and are saved with the model.
    """

    def modify(self, adapter: Adapter) -> Sequence[str]:
        """Change modules of `adapter.module` in place; return sentences for the user, such as what was left out.

        Every pretrained parameter and buffer stays the same object under the same name, so that weights, freezing and
        the ledger go by the names that the model family has. The same model always gives the same new parameters;
        random numbers come from the global generators, which the core seeds for this hook alone.

        Raises InputError if there is nothing to change.
        """
        raise NotImplementedError(f"{type(self).__name__} is a ModelHook and needs modify(adapter)")

    def setup(self, plan: Plan) -> Plan:
        """Return the plan, changed if the new modules ask for it, as `SetupHook.setup` does."""
        return plan

    def merge(self, adapter: Adapter) -> None:
        """Undo `modify` but keep the trained values: afterwards the model has only its own parameters.

        Predictions stay equal within rounding. Raises InputError if the change cannot be merged.
        """
        raise InputError(f"merge: the hook '{self.key()}' has no merge(); its modules stay part of the model")


class SetupHook(Hook):
    """Decides which parameters are trained, when and how fast, before the optimizer exists."""

    def prepare(self, adapter: Adapter) -> None:
        """Look at the model with its weights, or set values in it, before plan and optimizer exist.

        Called when a run is built, also to resume one, and not to predict: a checkpoint has the values that were set.
        """

    def setup(self, plan: Plan) -> Plan:
        """Return the changed plan; pure: the same plan gives the same result."""
        raise NotImplementedError(f"{type(self).__name__} is a SetupHook and needs setup(plan)")


class ObjectiveHook(Hook):
    """Adds losses to a step."""

    taps: tuple[str, ...] = ()
    """Names of the adapter's taps whose features it needs in `context.step_data.features`."""
    module: nn.Module | None = None
    """Parameters of its own, trained with the run's optimizer at `train.lr`; they join the ledger as a group."""

    sees_unlabelled: bool = False
    """Whether it uses unlabelled images and their features if the batch has some, and does without if not."""
    uses_pyramid: bool = False
    """Whether it needs `step_data.pyramid`, to pool features for boxes without its own pass through the model."""
    makes_side_passes: bool = False
    """Whether it needs `step_data.buffers` for side passes of labelled images; with unlabelled ones they are there."""

    only_model: bool = False
    """Whether its losses need nothing of a batch but `step_data.images` and features, so that it works in the trainers
    of others as well (`tlvision.bridges`)."""
    reads_input_spec: bool = False
    """Whether it has to know how `step_data.images` are normalised, which a trainer of others may not tell."""

    def prepare(self, adapter: Adapter) -> None:
        """Look at the model before the optimizer exists: choose `taps`, build `module`."""

    def losses(self, context: Context) -> Mapping[str, Tensor]:
        """Return `{name: 0-d tensor}`, weights applied; every value is added to the sum.

        Random numbers may be drawn from the global generators, which the core seeds for this hook and micro-batch
        alone. With a weight of 0 nothing may change in the model: return a constant, and make no pass in train mode.
        """
        raise NotImplementedError(f"{type(self).__name__} is an ObjectiveHook and needs losses(context)")


class DataHook(Hook):
    """Changes what labelled images look like, on the processes that load them; state of a run has no place in it."""

    uses_target = True

    def change(
        self, image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """Return a labelled image in the style of an unlabelled one, without moving any object.

        image: (H, W, 3) uint8 RGB; must not be written to. other: (h, w, 3), an unlabelled image drawn at random.
        rng:   a generator that depends on the seed and the place in the stream alone.

        Returns (H, W, 3) uint8 RGB.
        """
        raise NotImplementedError(f"{type(self).__name__} is a DataHook and needs change(image, other, rng)")


class ObserverHook(Hook):
    """Reads, and writes its own files."""

    def evaluation_weights(self) -> Mapping[str, Tensor] | None:
        """Return weights by state-dict name that evaluation should use instead of the trained ones, or None."""
        return None

    def adapt_weights(self, context: Context, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return `weights`, which evaluation and `checkpoints/best` are about to use, with something changed in them.

        weights: by state-dict name; must not be written to. Called once for an evaluation, hook after hook. The
        model itself must be left as it was found, bit for bit.
        """
        return weights
