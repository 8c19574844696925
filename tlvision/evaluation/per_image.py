"""Metrics as functions of how often each image counts: what a bootstrap over images needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from tlvision.evaluation.average_precision import average_precision
from tlvision.evaluation.confusion import Counts
from tlvision.evaluation.matching import Floats, Matches, match
from tlvision.evaluation.protocol import protocol_hash
from tlvision.evaluation.read import IouType, read_ground_truth, read_predictions


class PerImage(Protocol):
    """The results of one model on N images, kept image by image.

    images: name of each image, in one order for all models that are compared.
    truth:  hash of the ground truth; results with unequal hashes are not of the same data.
    """

    @property
    def truth(self) -> str:
        """Return the hash."""
        ...

    @property
    def images(self) -> Sequence[str]:
        """Return the N names."""
        ...

    def metrics(self, weights: npt.ArrayLike) -> dict[str, Floats]:
        """Return name -> (B,) values of each metric, nan where there is nothing to measure.

        weights: (B, N) how often each image counts in each of B versions of the data.
        """
        ...


def objects_per_image(
    ground_truth: str | Path, predictions: str | Path, kinds: Sequence[IouType], *, max_detections: int = 100
) -> ObjectsPerImage:
    """Match the predictions of one model; arguments and errors as for `coco_map`, for one or both IoU types."""
    matches: dict[str, Matches] = {}
    content = []
    for kind in kinds:
        truth = read_ground_truth(ground_truth, kind)
        matches[kind] = match(truth, read_predictions(predictions, truth, kind), kind, max_detections=max_detections)
        content.append([[image["id"] for image in truth.images], truth.categories, truth.annotations])
    return ObjectsPerImage(matches, protocol_hash({"content": repr(content)}))


@dataclass(frozen=True, slots=True)
class ObjectsPerImage:
    """AP, AP50 and the AP of each class from matches; "segm/AP" and so on.

    kinds: IoU type -> matches, all on the same images. truth: see `PerImage`.

    Values equal `coco_map`'s with weights of 1; see `tlvision.evaluation.average_precision`.
    """

    kinds: Mapping[str, Matches]
    truth: str = ""

    @property
    def images(self) -> list[str]:
        """Return the ids of the images as text."""
        return [str(number) for number in next(iter(self.kinds.values())).image_ids.tolist()]

    def metrics(self, weights: npt.ArrayLike) -> dict[str, Floats]:
        """Return the values of each metric; see `PerImage`."""
        values: dict[str, Floats] = {}
        for kind, matches in self.kinds.items():
            ap = average_precision(matches, weights)  # (B, C, T)
            values |= {f"{kind}/AP": _mean(ap, (1, 2)), f"{kind}/AP50": _mean(ap[:, :, :1], (1, 2))}
            values |= {f"{kind}/AP {name}": _mean(ap[:, label], 1) for label, name in enumerate(matches.names)}
        return values


@dataclass(frozen=True, slots=True)
class LabelMapsPerImage:
    """Mean class IoU and the IoU of each class from the pixels of each image.

    names:  of the C classes. images: names of the N label maps.
    pixels: (N, 3, C) pixels that are right, of the ground truth, and predicted, by class.
    truth:  see `PerImage`; the number of pixels of each class and image decides.

    Values equal `class_iou`'s with weights of 1.
    """

    names: Sequence[str]
    images: Sequence[str]
    pixels: Counts

    @classmethod
    def of(cls, names: Sequence[str], images: Sequence[str], matrices: Sequence[Counts]) -> LabelMapsPerImage:
        """Return them from the confusion matrix of each image, true class by predicted class."""
        rows = [np.stack([np.diag(matrix), matrix.sum(axis=1), matrix.sum(axis=0)]) for matrix in matrices]
        return cls(tuple(names), list(images), np.stack(rows))

    @property
    def truth(self) -> str:
        """Return the hash of names and pixels of the ground truth."""
        return protocol_hash({"names": list(self.names), "pixels": self.pixels[:, 1].tolist()})

    def metrics(self, weights: npt.ArrayLike) -> dict[str, Floats]:
        """Return the values of each metric; see `PerImage`."""
        totals = np.einsum("bn,nsc->bsc", np.asarray(weights, np.float64), self.pixels.astype(np.float64))
        hits, truths, found = totals[:, 0], totals[:, 1], totals[:, 2]  # (B, C) each
        with np.errstate(divide="ignore", invalid="ignore"):
            iou = np.where(truths > 0, hits / (truths + found - hits), np.nan)
        mean = np.where((truths > 0).sum(axis=1) > 1, _mean(iou, 1), np.nan)  # one class alone measures nothing
        classes = {f"semantic/iou {name}": iou[:, label] for label, name in enumerate(self.names)}
        return {"semantic/mean_class_iou": mean, **classes}


def _mean(values: Floats, axis: int | tuple[int, ...]) -> Floats:
    """Return the mean of what is not nan, nan where everything is."""
    present = ~np.isnan(values)
    count = present.sum(axis=axis)
    total = np.where(present, values, 0.0).sum(axis=axis)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(count > 0, total / count, np.nan)
