"""Pseudo-labels of a micro-batch as training targets."""

from __future__ import annotations

from dataclasses import dataclass

from tlvision.types import Target


@dataclass(frozen=True, slots=True, eq=False)
class PseudoTargets:
    """Targets for some images of a micro-batch.

    images:  indices of the images that have a target; the others have no confident prediction.
    targets: one for each of `images`, in pixels of the network input.
    share:   confident share, 0..1: of the pixels that show an image, or of the images of detectors.
    count:   number of objects, or of classes present, over all images.
    """

    images: list[int]
    targets: list[Target]
    share: float
    count: int
