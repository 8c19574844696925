"""The contract with a model family, read from top to bottom in order of time.

    plugin = registry.get("yolo")            # a light object; importing it imports no upstream
    task = plugin.task_of("yolov8n")         # "detect", or an InputError that lists the architectures
    adapter, report = plugin.build(spec)     # now the upstream is imported and the weights are read
    adapter.input_spec                       # the core resizes, pads and normalises as it says
    adapter.groups, adapter.taps             # the core freezes, sets learning rates and captures features
    adapter.loss(images, targets)            # train mode
    adapter.predict(images)                  # eval mode

A plugin has no train(), no optimizer, no evaluator: those are the core's, so that every method works on every family.
Nothing here imports torch when it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

from tlvision.types import ClassMap, InputSpec, Prediction, Target

if TYPE_CHECKING:
    from pydantic import BaseModel
    from torch import Tensor, nn

Role = Literal["stem", "backbone", "neck", "head"]
ROLES: tuple[Role, ...] = ("stem", "backbone", "neck", "head")


@dataclass(frozen=True, slots=True)
class LayerGroup:
    """A stretch of the model, for freezing and learning rates.

    name:    how a user names it, for example "backbone.stage2"; unique within a model.
    role:    "stem", "backbone", "neck" or "head".
    modules: dotted names inside `adapter.module` of modules, parameters or buffers ("model.4", "pos_embed").
             A module stands for everything below it.
    reads:   names of the earlier groups whose output it takes; None for the one before it. Parallel heads (a
             decode head and an auxiliary one, or the boxes and the masks of a region) name what they share, so that
             none counts as lying behind another.

    The groups of a model, in order, run from input to output and hold every parameter and every buffer exactly once.
    """

    name: str
    role: Role
    modules: tuple[str, ...]
    reads: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class Tap:
    """A module whose output is a feature map that hooks may use; the core captures it with a forward hook.

    name:        how a user names it, for example "p3"; unique within a model.
    module_path: dotted name inside `adapter.module`; its output must be one tensor of shape (N, C, H / s, W / s).
    channels:    C.
    stride:      s, in network-input pixels per feature cell.
    """

    name: str
    module_path: str
    channels: int
    stride: int


FRESH_ROWS = "all rows stay fresh"
"""How an entry of `WeightReport.mismatched` ends if the source has none of the classes, or does not name them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightReport:
    """Which checkpoint keys were loaded, missing, mismatched, remapped or unused.

    source:     where they came from: a path, a name such as "coco", or "none".
    loaded:     keys of the model that were filled unchanged.
    missing:    keys of the model that the source does not have; they keep their fresh initialisation.
    mismatched: keys whose shape differs, with both shapes in the text ("head.weight: (3, 64) here, (80, 64) there").
    remapped:   keys filled in part by class name, with what happened ("cls.weight: rows person, car of 80").
    unused:     keys of the source that the model does not have.

    Every key of the model's state is in exactly one of loaded, missing, mismatched and remapped (mismatched and
    remapped entries begin with the key and a colon).
    """

    source: str
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mismatched: tuple[str, ...] = ()
    remapped: tuple[str, ...] = ()
    unused: tuple[str, ...] = ()

    def summary(self) -> str:
        """Return one line; a head without rows for the classes is expected, and is not "another shape"."""
        head = sum(FRESH_ROWS in entry for entry in self.mismatched)
        new = [f"{head} of the head stay fresh (other classes)"] if head else []
        counts = [
            f"{len(self.loaded)} loaded",
            f"{len(self.remapped)} remapped",
            f"{len(self.missing)} missing",
            *new,
            f"{len(self.mismatched) - head} of another shape",
            f"{len(self.unused)} unused",
        ]
        return f"weights {self.source}: {', '.join(counts)}"


DEFAULT_MAX_DETECTIONS, DEFAULT_MAX_MASKS = 300, 100
"""Default number of objects in an image; lower with masks, because masks of full size take much memory."""


DEFAULT_SCORE_FLOOR = 0.001
"""Default score floor: COCO's evaluation needs low scores."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PredictSpec:
    """Limits on the objects that `Adapter.predict` returns; None is the family's usual value. Label maps ignore them.

    score_floor:    objects with a lower score are left out, 0..1; None for 0.001, as COCO's evaluation needs, or less
                    where upstream keeps everything.
    nms_iou:        IoU above which the worse of two boxes of a class is suppressed, 0..1. A plugin raises InputError
                    for an architecture that suppresses nothing.
    max_detections: objects of an image at most; None for 300, 100 with masks.
    """

    score_floor: float | None = None
    nms_iou: float | None = None
    max_detections: int | None = None

    @property
    def floor(self) -> float:
        """The score floor, 0.001 by default."""
        return DEFAULT_SCORE_FLOOR if self.score_floor is None else self.score_floor

    def overlap(self, usual: float) -> float:
        """Return the IoU threshold of suppression, `usual` by default."""
        return usual if self.nms_iou is None else self.nms_iou

    def most(self, *, masks: bool = False) -> int:
        """Return how many objects an image has at most, whether each has a mask or not."""
        return self.max_detections or (DEFAULT_MAX_MASKS if masks else DEFAULT_MAX_DETECTIONS)


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildSpec:
    """The model that a plugin is to build.

    arch:       architecture name, as `plugin.architectures()` lists.
    weights:    "coco", "imagenet", "pretrained" (what upstream has trained this architecture on, where that is
                neither), "none", or the path of a file; a plugin offers those that it has. It must read, next to its
                upstream's format, the core's own `model.safetensors` (`tlvision.plugin.weights.files.read_tensors`).
    classes:    the classes the head must have, in this order.
    image_size: long side of the network input in pixels, for families that fix it when built.
    options:    `model.options` of the config, as the plugin's own type (see `HasOptions`); None if the
                plugin has none, or to take its defaults.
    predict:    which objects `Adapter.predict` gives.
    """

    arch: str
    weights: str
    classes: ClassMap
    image_size: int = 640
    options: BaseModel | None = None
    predict: PredictSpec = PredictSpec()


class Adapter(Protocol):
    """One model, ready to be fine-tuned: four attributes and three methods."""

    module: nn.Module
    """All trained state is inside it. The core sets train and eval modes; train() must not be overridden."""

    @property
    def input_spec(self) -> InputSpec:
        """The form of images in `loss`, `features` and `predict`."""
        ...

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        """The groups from input to output: a partition by identity of all parameters and buffers."""
        ...

    @property
    def taps(self) -> tuple[Tap, ...]:
        """The places whose features the core may capture, from fine to coarse."""
        ...

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return the losses of a batch, in train mode.

        images:  (N, 3, H, W) float32, normalised by `input_spec`; H and W multiples of `multiple_of`.
        targets: N targets of torch tensors on the device of `images`, boxes in network-input pixels. Boxes may be
                 absent from any or all images. Crowd objects are not in them: the core takes them out. For the task
                 "instance" every target has `masks`, (M, H, W) uint8 in the frame of `images`; for "semantic",
                 `semantic`.

        Returns `{name: 0-d tensor}`, weights applied, averaged over the images (so that the learning rate does not
        depend on the batch size); the core sums *every* value.
        """
        ...

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` without needing labels, with gradients if enabled.

        `return tap_features(self.module, self.taps, images)` will do where a plain forward works.
        """
        ...

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return one prediction per image, in eval mode and without gradients, boxes in network-input pixels.

        images: as in `loss`. Scores in 0..1, labels contiguous, no background class; low scores are kept (from
        0.001 on), at most `BuildSpec.max_detections` objects an image (300, or 100 with masks, where that is None),
        the best ones. For the task "instance" every prediction has `masks`, (K, H, W) uint8 of 0 and 1 in the frame of
        `images`.
        """
        ...


@runtime_checkable
class HasTrainingProgress(Protocol):
    """Capability: the model's loss changes over the run (YOLOv10's and YOLO26's two heads, for example)."""

    def set_progress(self, fraction: float) -> None:
        """Tell which epoch comes: 0.0 in the first to 1.0 in the last; called before each. Pure: no state but this."""
        ...


@runtime_checkable
class HasDenseLogits(Protocol):
    """Capability: the model scores every class at every pixel. Every model of the task "semantic" has it.

    An adapter whose scores are not logits of a softmax over the classes has an attribute `score_kind`: "sigmoid"
    (logits of one sigmoid for each class) or "probabilities" (mask classifiers); see `tlvision.plugin.ScoreKind`.
    """

    def dense_logits(self, images: Tensor) -> Tensor:
        """Return (N, C, h, w) scores of the C classes, in their order; needs no labels.

        images: as in `Adapter.loss`. h and w are the height and width of `images`, or those divided by one whole
        stride. The class of a pixel is the one with the highest score once the scores are interpolated to where it is
        wanted: that of the current mode, with gradients if they are enabled.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class InstanceFeatures:
    """Objects of one image, as the model sees them before it names them.

    boxes:    (K, 4) float32 tensor, x0 y0 x1 y1 in network-input pixels.
    features: (K, C) tensor, one row a box, pooled over it.
    """

    boxes: Tensor
    features: Tensor


@runtime_checkable
class HasScoreGradients(Protocol):
    """Capability: the scores of found objects can be differentiated, so that it can be shown what they depend on."""

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `Adapter.predict` returns, with gradients of the scores if they are enabled.

        images: as in `Adapter.loss`. Choosing objects (suppression, the best ones) has no gradient. Boxes and masks may
        have some or none.
        """
        ...


@runtime_checkable
class HasInstanceFeatures(Protocol):
    """Capability: the model pools features for boxes (two-stage detectors do)."""

    @property
    def pyramid_path(self) -> str:
        """The path, from `Adapter.module`, of the part whose output boxes are pooled from: backbone or neck."""
        ...

    def instance_features(
        self,
        images: Tensor,
        boxes: Sequence[Tensor] | None = None,
        *,
        most: int | None = None,
        pyramid: Any = None,
    ) -> Sequence[InstanceFeatures]:
        """Return boxes and their features for each image, with gradients if they are enabled; needs no labels.

        images:  as in `Adapter.loss`.
        boxes:   (K, 4) float32 in network-input pixels for each image; None takes the model's own proposals.
        most:    how many of its own proposals an image has at most, the best ones; None for all. Only those are pooled.
        pyramid: output of the module at `pyramid_path` for these images (see `tlvision.plugin.record`), in upstream's
                 form; None runs the model up to there.
        """
        ...


@runtime_checkable
class HasOptions(Protocol):
    """Capability of a plugin: its models have options in addition to name and weights, such as losses."""

    def options_type(self) -> type[BaseModel]:
        """Return the pydantic model of `model.options` in a config; every field has a default, no other is allowed."""
        ...


@runtime_checkable
class HasForeignModels(Protocol):
    """Capability of a plugin: it describes models that upstream's own trainer has built, for `tlvision.bridges`."""

    def describe(self, module: nn.Module) -> Adapter | None:
        """Return an adapter around `module`; None if it is no model of this family.

        Its groups, taps and features hold. `loss` and `predict` are upstream's own business there and need not work.
        The upstream is imported only if the classes of `module` are its.
        """
        ...


class Plugin(Protocol):
    """A model family. The entry point in the group `tlvision.plugins` names an object like this."""

    name: str
    """The plugin's name in a config, equal to the entry point's."""
    tasks: tuple[str, ...]
    """Names of the tasks that its architectures are for, as `tlvision.tasks` has them."""
    upstream: str
    """The upstream distribution, for example "ultralytics"; empty if it needs none."""
    upstream_versions: str
    """Version range of `upstream` that was tested, for example ">=8.4,<9"; empty if it needs none."""
    licence: str
    """SPDX identifier of the licence of the plugin together with its upstream."""
    capabilities: Mapping[str, str]
    """Optional powers by Protocol name: "yes", "not written", or "impossible: reason"."""

    def architectures(self) -> tuple[str, ...]:
        """Return the names that `BuildSpec.arch` may have, without importing the upstream."""
        ...

    def task_of(self, arch: str) -> str:
        """Return the task that `arch` is for; InputError with the nearest name if it is unknown."""
        ...

    def build(self, spec: BuildSpec) -> tuple[Adapter, WeightReport]:
        """Build the model and load its weights.

        Raises InputError if the upstream is not installed (with the pip command), the weights cannot be read or
        downloaded (with what to do offline), or belong to another architecture.
        """
        ...
