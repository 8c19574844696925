"""What a map explains: detections of a detector, or the pixels of a class in a label map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from tlvision.analysis.saliency.overlap import compare
from tlvision.data.geometry import unwarp_boxes
from tlvision.inference.dense import dense_scores, label_map_of
from tlvision.inference.finite import check_outputs
from tlvision.plugin import HasDenseLogits, HasScoreGradients, interpolate
from tlvision.types import Pixels, Prediction, counted

if TYPE_CHECKING:
    from torch import Tensor

    from tlvision.data.geometry import Matrix
    from tlvision.engine.model import LoadedModel
    from tlvision.plugin import Adapter

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One image as the model gets it.

    name:   of the file, for messages.
    pixels: (h, w, 3) uint8 RGB, the original image.
    inputs: (1, 3, H, W) float32, normalised. matrix: (3, 3), original pixels -> network-input pixels.
    """

    name: str
    pixels: Pixels
    inputs: Tensor
    matrix: Matrix

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width of the original image."""
        return self.pixels.shape[0], self.pixels.shape[1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is explained in one image.

    text:       in words, "RBC 0.93".
    class_name: its class; None if the whole image is shown (eigen_cam without a detection).
    detection:  its number by score, from 1; None for a class.
    region:     (h, w) bool of the original image, where it is; None for the whole image.
    shown:      boxes to draw, in original pixels.
    objects:    detections in network-input pixels, as tensors; None for a label map.
    class_index, pixels: of a label map: index of the class, and (H, W) bool tensor of its pixels in the network input.
    """

    text: str
    class_name: str | None = None
    detection: int | None = None
    region: Mask | None = None
    shown: Prediction
    objects: Prediction | None = None
    class_index: int | None = None
    pixels: Tensor | None = None

    def score(self, adapter: Adapter, inputs: Tensor) -> Tensor | None:
        """Return the score that is explained, a number with gradients; None if the model finds no object at all.

        Detections: the sum of their scores. Each is found again as the detection with the highest IoU among those of
        its class, which is itself as long as the weights are the same. Label maps: the mean score of the class over its
        pixels (Seg-Grad-CAM, Vinogradova et al. 2020).
        """
        if self.pixels is not None:
            assert isinstance(adapter, HasDenseLogits)
            scores = interpolate(adapter.dense_logits(inputs), inputs.shape[2:])[0, self.class_index]
            mean: Tensor = scores[self.pixels].mean()
            return mean
        assert self.objects is not None
        assert isinstance(adapter, HasScoreGradients)
        found = adapter.predict_with_gradients(inputs)[0]
        if not len(found):
            return None
        ious, same = compare(self.objects, found)
        total: Tensor = found.scores[(ious + 2 * same).argmax(dim=1)].sum()
        return total


def find_objects(model: LoadedModel, view: View, class_name: str | None, number: int | None) -> Subject | str:
    """Return the detections to explain, or why there are none, as a clause for a message.

    class_name: only this class; without a number all its detections together. number: by score, from 1.
    """
    names = model.classes.names
    with torch.no_grad():
        found = model.adapter.predict(view.inputs)
    check_outputs(found, (view.name,))
    counting = _counting(found[0], model, view)
    if class_name is not None:
        counting = counting[counting.labels == names.index(class_name)]
    of_class = "" if class_name is None else f" of '{class_name}'"
    if not len(counting):
        return f"no detection{of_class} reaches its threshold"
    if number is not None and number > len(counting):
        return f"--detection is {number}, and there {_are(len(counting), of_class)}"
    if class_name is None or number is not None:
        number = number or 1
        counting = counting[number - 1 : number]
    shown = _original(counting, view)
    text = ", ".join(f"{names[label]} {score:.2f}" for label, score in zip(shown.labels, shown.scores, strict=True))
    if len(shown) > 1:
        text = f"{counted(len(shown), 'detection')}{of_class}"
    return Subject(
        text=text,
        class_name=names[int(shown.labels[0])],
        detection=number,
        region=_inside(shown, view.size),
        shown=shown,
        objects=counting,
    )


def find_class(model: LoadedModel, view: View, class_name: str | None) -> Subject | str:
    """Return the class of a label map to explain (None: the one with the most pixels), or why there is none."""
    names = model.classes.names
    assert isinstance(model.adapter, HasDenseLogits)
    with torch.no_grad():
        scores = dense_scores(model.adapter, view.inputs)
    check_outputs(scores, (view.name,))
    labels = label_map_of(scores[0], view.matrix, view.size)
    index = int(np.bincount(labels.ravel()).argmax()) if class_name is None else names.index(class_name)
    region = labels == index
    pixels = (scores[0].argmax(dim=0) == index) & _visible(view, scores.device)
    if not region.any() or not bool(pixels.any()):
        return f"no pixel is predicted as '{names[index]}'"
    return Subject(
        text=f"the class '{names[index]}'",
        class_name=names[index],
        region=region,
        shown=Prediction.empty(),
        class_index=index,
        pixels=pixels.clone(),
    )


def _counting(found: Prediction, model: LoadedModel, view: View) -> Prediction:
    """Return the detections that count, highest score first; those in the padding alone are left out."""
    found = Prediction(boxes=found.boxes.clone(), scores=found.scores.clone(), labels=found.labels.clone())
    boxes = torch.from_numpy(_original(found, view).boxes)
    least = torch.as_tensor(model.thresholds.of(model.classes.names))[found.labels.cpu()]
    counts = (boxes[:, 2:] > boxes[:, :2]).all(dim=1) & (found.scores.cpu() >= least)
    rows = counts.nonzero().flatten().to(found.scores.device)
    return found[rows[found.scores[rows].argsort(descending=True, stable=True)]]


def _original(found: Prediction, view: View) -> Prediction:
    arrays = found.numpy()
    boxes = unwarp_boxes(arrays.boxes, view.matrix, view.size)
    return Prediction(boxes=boxes, scores=arrays.scores, labels=arrays.labels)


def _inside(shown: Prediction, size: tuple[int, int]) -> Mask:
    """Return (h, w) bool, the pixels whose centre lies in one of the boxes; at least one pixel for each."""
    region = np.zeros(size, bool)
    for x0, y0, x1, y1 in shown.boxes.tolist():
        left, top = min(round(x0), size[1] - 1), min(round(y0), size[0] - 1)
        region[top : max(round(y1), top + 1), left : max(round(x1), left + 1)] = True
    return region


def _visible(view: View, device: torch.device) -> Tensor:
    """Return (H, W) bool, the part of the network input that shows the image and not padding."""
    visible = torch.zeros(view.inputs.shape[2:], dtype=torch.bool, device=device)
    left, top = round(view.matrix[0, 2]), round(view.matrix[1, 2])
    bottom, right = top + round(view.matrix[1, 1] * view.size[0]), left + round(view.matrix[0, 0] * view.size[1])
    visible[top : max(bottom, top + 1), left : max(right, left + 1)] = True
    return visible


def _are(count: int, of_class: str) -> str:
    return f"{'is' if count == 1 else 'are'} {counted(count, 'detection')}{of_class}"
