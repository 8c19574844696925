"""Validation images that look like training images without being copies, and images of an unusual kind."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from tlvision.analysis.doctor.findings import Finding, file_of
from tlvision.analysis.doctor.image_measures import Measured
from tlvision.types import counted

ALIKE = 0.8
"""Correlation of two grey pictures of 32 x 32 pixels. Of the validation images of coco128, BCCD, DeepPCB, KITTI and
CARLA at most 7 % have a training image above it; of CamVid, with frames a second apart, 61 % (day) and 94 % (dusk)."""
MANY = 0.5
"""Share of the validation images."""
BINARY = 0.9
"""Share of pixels that are nearly black or white, in the middle image of a dataset."""
_SIDE = 32


def resemblance(images: Sequence[Measured]) -> list[Finding]:
    """Return whether most validation images resemble a training image, with the most alike pairs first."""
    findings = []
    train = [image for image in images if image.part.name == "train"]
    for other in ("val", "source_val"):
        held = [image for image in images if image.part.name == other]
        if not train or not held:
            continue
        alike = _normal(held) @ _normal(train).T
        closest, value = alike.argmax(1), alike.max(1)
        share = float((value >= ALIKE).mean())
        if share < MANY:
            continue
        places = []
        for index in np.argsort(-value, kind="stable").tolist():
            if value[index] >= ALIKE:
                near = train[int(closest[index])]
                name = f"train/{file_of(near.part, near.sample)}"
                places.append(held[index].part.place(held[index].sample, other=name))
        sentence = (
            f"{share:.0%} of the images of data.{other} look like one of data.train (correlation of {ALIKE} or more of "
            "small grey pictures), as frames of one drive or a fixed camera do: metrics say little about new scenes"
        )
        findings.append(Finding("note", "resemblance", sentence, tuple(places)))
    return findings


def nearly_binary(images: Sequence[Measured]) -> list[Finding]:
    """Return whether the images are nearly black and white, which pretrained weights have not seen."""
    shares = [image.binary for image in images if image.part.name == "train"]
    if not shares or np.median(shares) < BINARY:
        return []
    sentence = (
        f"data.train: in the middle one of {counted(len(shares), 'image')} {np.median(shares):.0%} of the pixels are "
        "nearly black or white: a strong shift from the photographs of pretrained weights"
    )
    return [Finding("note", "image_kind", sentence)]


def _normal(images: Sequence[Measured]) -> npt.NDArray[np.float32]:
    """Return (N, 1024) small pictures with mean 0 and norm 1; a picture of one colour is all 0."""
    rows = []
    for image in images:
        assert image.small is not None
        small = cv2.resize(image.small, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32).ravel()
        small -= small.mean()
        norm = float(np.linalg.norm(small))
        rows.append(small / norm if norm > 1e-3 else 0 * small)
    return np.array(rows, np.float32)
