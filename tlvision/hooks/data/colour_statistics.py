"""Give labelled images the colours of unlabelled ones.

Source: Reinhard, Ashikhmin, Gooch & Shirley, "Color Transfer between Images", IEEE Computer Graphics and Applications
2001, equations 10 and 11: x -> (x - mean) * deviation_other / deviation + mean_other for each channel. Differences:
in CIE Lab instead of Ruderman's l-alpha-beta. `match: histogram` instead gives each colour of RGB the distribution that
it has in the other image (Gonzalez & Woods, "Digital Image Processing", histogram specification), level by level.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import cv2
import numpy as np

from tlvision.hooks.base import DataHook
from tlvision.hooks.parameters import Share

if TYPE_CHECKING:
    import numpy.typing as npt


class ColourStatistics(DataHook):
    """Match the colours of each image with those of an unlabelled one.

    match:       "statistics" matches mean and deviation of each channel in Lab, "histogram" the distribution of each
                 colour.
    probability: how likely an image is changed, 0..1.
    strength:    how far towards the other image, 0..1.
    """

    def __init__(
        self,
        *,
        match: Literal["statistics", "histogram"] = "statistics",
        probability: Share = 0.5,
        strength: Share = 1.0,
    ) -> None:
        self.match, self.probability, self.strength = match, probability, strength

    def change(
        self, image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], rng: np.random.Generator
    ) -> npt.NDArray[np.uint8]:
        """Return the image with the colours of `other`, (H, W, 3) uint8."""
        if rng.random() >= self.probability:
            return image
        change = match_statistics if self.match == "statistics" else match_histograms
        return change(image, other, self.strength)


def match_statistics(
    image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], strength: float
) -> npt.NDArray[np.uint8]:
    """Return the image with the mean and deviation of each Lab channel moved towards those of `other`.

    image, other: (H, W, 3) and (h, w, 3) uint8 RGB. A channel without deviation is only shifted.
    """
    lab, wanted = (cv2.cvtColor(each.astype(np.float32) / 255, cv2.COLOR_RGB2LAB) for each in (image, other))
    (mean, deviation), (new_mean, new_deviation) = (cv2.meanStdDev(each) for each in (lab, wanted))  # (3, 1) each
    # 1e-3 of a scale of 100: less than rounding to 8 bits leaves.
    factor = np.where(deviation > 1e-3, new_deviation / np.maximum(deviation, 1e-3), 1.0)
    factor = 1 + strength * (factor - 1)
    shift = mean + strength * (new_mean - mean) - factor * mean
    moved = lab * factor[:, 0].astype(np.float32) + shift[:, 0].astype(np.float32)
    rgb = cv2.cvtColor(moved.astype(np.float32), cv2.COLOR_LAB2RGB)
    return np.clip(np.rint(rgb * 255), 0, 255).astype(np.uint8)


def match_histograms(
    image: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8], strength: float
) -> npt.NDArray[np.uint8]:
    """Return the image with each colour's levels moved towards those that are as high up in `other`.

    image, other: (H, W, 3) and (h, w, 3) uint8 RGB.
    """
    levels = np.arange(256)
    tables = []
    for channel in range(3):
        counts, wanted = (np.bincount(each[..., channel].ravel(), minlength=256) for each in (image, other))
        own_share, wanted_share = np.cumsum(counts) / counts.sum(), np.cumsum(wanted) / wanted.sum()
        present = wanted > 0
        target = np.interp(own_share, wanted_share[present], levels[present])
        tables.append(levels + strength * (target - levels))
    table = np.clip(np.rint(np.stack(tables, axis=-1)), 0, 255).astype(np.uint8)[None]  # (1, 256, 3)
    return cv2.LUT(image, table)  # type: ignore[return-value]
