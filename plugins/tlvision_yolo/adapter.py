"""An ultralytics detector behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import PredictSpec, capture, constants
from tlvision.plugin.export import Candidates, ExportGraphs
from tlvision.types import InputSpec, Prediction, Target
from tlvision_yolo.export import export_graphs
from tlvision_yolo.groups import find_groups, find_taps, probe
from tlvision_yolo.upstream import non_max_suppression

_NMS_IOU = 0.7
"""That of upstream's validator."""


class YoloAdapter:
    """One YOLO detector, ready to be fine-tuned. Also has the capability `HasTrainingProgress`.

    model: ultralytics' DetectionModel on the CPU in train mode, with `args` as `tlvision_yolo.build` sets them.
    predict: limits on the objects of `predict`.
    """

    module: nn.Module

    masks = False
    """Whether each object has a mask."""

    def __init__(self, model: Any, predict: PredictSpec) -> None:
        self._predict, self._most = predict, predict.most(masks=self.masks)
        if hasattr(model.model[-1], "max_det"):
            model.model[-1].max_det = self._most  # of a one-to-one head
        outputs = probe(model)
        self.groups = find_groups(model, outputs)
        self.taps = find_taps(model, outputs)
        # `module` is what the core trains and may wrap (for several processes); `_model` stays the bare one.
        self.module = self._model = model
        self._criterion: Any = None
        self._criterion_device: torch.device | None = None
        self._progress = 0.0
        # The margin is that of upstream's validator, so that numbers can be compared. It is no gain everywhere: AP on
        # BCCD, three trainings, 0.5815 without and 0.5944 with it; COCO weights on coco128 0.444 without, 0.433 with.
        coarsest = max(32, int(model.stride.max()))
        self.input_spec = InputSpec(resize="letterbox", multiple_of=coarsest, margin=coarsest // 2)

    def set_progress(self, fraction: float) -> None:
        """Set the balance of a dual head's two losses (v10, 26) for a run of which `fraction`, 0..1, is done.

        Upstream moves the weight of the one-to-many loss linearly from 0.8 at the first epoch to 0.1 at the last, and
        that of the one-to-one loss from 0.2 to 0.9. Models with one head ignore it.
        """
        self._progress = min(max(float(fraction), 0.0), 1.0)
        if self._criterion is not None:
            self._balance()

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses, gains applied, as a mean over the images.

        images:  (N, 3, H, W) float32 in 0..1, RGB; H and W multiples of 32.
        targets: N targets on the device of `images`, boxes in pixels of the network input; may be empty.

        Returns 0-d float32 tensors "box" (CIoU), "cls" (binary cross-entropy) and "dfl" (distribution focal loss) or,
        for models without a distribution (26), "l1" in its place. Their sum is upstream's loss divided by N, which
        upstream's trainer has multiplied by N. Of a dual head, each is the weighted sum over both branches.
        """
        self._forget_anchors()
        raw = self.module(images)
        # In half precision a box would be decoded to whole pixels at best.
        with torch.autocast(images.device.type, enabled=False):
            total, _ = self._criterion_on(images.device)(_as_float32(raw), self._upstream_batch(images, targets))
        named = zip(self._loss_names(), total / len(images), strict=True)
        return {name: loss for name, loss in named if name}

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        self._forget_anchors()
        with capture(self._model, self.taps) as features:
            self.module(images)
        return features

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return one prediction per image, highest score first, always in float32.

        images: as in `loss`. Boxes are clipped to the network input, in its pixels. `BuildSpec.predict`
        limits the objects; suppression is by class, by default at IoU 0.7, with several classes
        a place allowed, as upstream's validator has it. A head set to its one-to-one branch gives its own best instead.

        Raises RuntimeError if the module is in train mode.
        """
        with torch.no_grad():
            return self.predict_with_gradients(images)

    def predict_with_gradients(self, images: Tensor) -> Sequence[Prediction]:
        """Return what `predict` does, with gradients of the scores if they are enabled."""
        if self._model.training:
            raise RuntimeError("YoloAdapter.predict: the module must be in eval mode; call module.eval() first")
        with torch.autocast(images.device.type, enabled=False):
            self._forget_anchors()
            output = self._model(images.float())[0]
            self._forget_anchors()
            return self._read(output, (images.shape[2], images.shape[3]))

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return the model up to the boxes and scores of every place; see `tlvision.plugin.Exportable`."""
        head = self._model.model[-1]
        one_to_one = bool(head.end2end)  # this branch suppresses nothing, and upstream reads its best places alone
        decoder = Candidates(
            score_floor=self._predict.floor,
            nms_iou=None if one_to_one else self._predict.overlap(_NMS_IOU),
            most=min(self._most, head.max_det) if one_to_one else self._most,
            masks=self.masks,
        )
        return export_graphs(self._model, images, decoder)

    def _read(self, output: Any, size: tuple[int, int]) -> list[Prediction]:
        """Turn the model's output in eval mode, on images of `size` (height, width), into predictions."""
        return [to_prediction(rows, size) for rows in self._suppress(output)]

    def _suppress(self, output: Tensor) -> list[Tensor]:
        """Return for each image its best objects as rows of x0, y0, x1, y1, score, class, …."""
        found: list[Tensor] = non_max_suppression(
            output,
            conf_thres=self._predict.floor,
            iou_thres=self._predict.overlap(_NMS_IOU),
            multi_label=True,
            max_det=self._most,
            nc=self._model.model[-1].nc,
            # Past its time limit upstream leaves the rest of the batch without detections.
            max_time_img=math.inf,
            end2end=bool(self._model.end2end),
        )
        return [rows.float() for rows in found]

    def _forget_anchors(self) -> None:
        # Upstream's head keeps its anchor grid from call to call as long as the shape stays, whatever dtype or
        # inference mode it was made in; a backward pass through a grid of inference mode fails.
        self._model.model[-1].shape = None

    def _criterion_on(self, device: torch.device) -> Any:
        if self._criterion is None or self._criterion_device != device:
            # Upstream's criterion fixes its device when built. It has no trained state.
            self._criterion = self._model.init_criterion()
            self._criterion_device = device
            self._balance()
        return self._criterion

    def _balance(self) -> None:
        if hasattr(self._criterion, "o2m"):
            # Upstream counts epochs; with args.epochs = 2 its epoch 0 is the start and its epoch 1 the end.
            self._criterion.o2m = self._criterion.decay(self._progress)
            self._criterion.o2o = max(self._criterion.total - self._criterion.o2m, 0.0)

    def _loss_names(self) -> tuple[str, ...]:
        """Return what upstream's losses are, in its order; one called "" is no part of this model."""
        return "box", "cls", "dfl" if self._model.model[-1].reg_max > 1 else "l1"

    def _upstream_batch(self, images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
        return upstream_batch(images, targets)


def upstream_batch(images: Tensor, targets: Sequence[Target]) -> dict[str, Tensor]:
    """Return upstream's batch: one row an object, boxes as centre and size in parts of the image."""
    height, width = images.shape[-2:]
    boxes = torch.cat([target.boxes for target in targets]).to(images.device)
    x0, y0, x1, y1 = boxes.unbind(1)
    centred = torch.stack([(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height], 1)
    # Filled on the device, object by object: for counts from the CPU a GPU would wait.
    owners = [boxes.new_full((len(target),), float(number)) for number, target in enumerate(targets)]
    return {
        "img": images,
        "cls": torch.cat([target.labels for target in targets]).to(images.device).float()[:, None],
        "bboxes": centred,
        "batch_idx": torch.cat(owners),
    }


def _as_float32(raw: Any) -> Any:
    if isinstance(raw, Tensor):
        return raw.float()
    if isinstance(raw, dict):
        return {name: _as_float32(value) for name, value in raw.items()}
    return type(raw)(_as_float32(value) for value in raw)


def to_prediction(rows: Tensor, size: tuple[int, int], masks: Tensor | None = None) -> Prediction:
    """Turn rows of x0, y0, x1, y1, score, class, … into a Prediction clipped to an input of `size` (height, width)."""
    height, width = size
    limit = constants([width, height, width, height], rows)
    boxes = rows[:, :4].clamp(min=0).minimum(limit)
    return Prediction(boxes=boxes, scores=rows[:, 4], labels=rows[:, 5].long(), masks=masks)
