"""The registry of corruptions, and their use on images and samples.

The draws of a corruption depend on the seed, its name and the file name of the image only. They are the same at every
severity (the same patches, larger; the same path of motion, longer), so a curve over the severities compares like with
like. The order of images, worker processes and other corruptions have no effect.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from tlvision.analysis.robustness import blur, light, scene, views
from tlvision.analysis.robustness.severities import SCALES, SEVERITIES
from tlvision.data.geometry import Matrix, warp_image
from tlvision.types import InputError, Pixels, Sample, nearest
from tlvision.types.shown import clip, shown

CHANGES: dict[str, Callable[[Pixels, float, np.random.Generator], Pixels]] = {
    "brightness": light.brightness,
    "darkness": light.darkness,
    "contrast": light.contrast,
    "defocus_blur": blur.defocus_blur,
    "motion_blur": blur.motion_blur,
    "gaussian_noise": light.gaussian_noise,
    "shot_noise": light.shot_noise,
    "jpeg": light.jpeg,
    "fog": scene.fog,
    "occlusion": scene.occlusion,
}
"""Corruptions that change pixels and keep labels."""
VIEWS: dict[str, Callable[[tuple[int, int], float, np.random.Generator], Matrix]] = {
    "scale": views.shrink,
    "rotation": views.turn,
}
"""Corruptions that move the image, and the labels with it."""
PADDING = (114, 114, 114)


@dataclass(frozen=True, slots=True)
class Condition:
    """One corruption at one severity.

    corruption: its name, a key of `SCALES`.
    severity:   1 to 5.
    seed:       of all random draws.

    Instances can be pickled, so worker processes may use `change` and `view`.

    >>> Condition("rotation", 5, 0).moves_labels, Condition("fog", 5, 0).moves_labels
    (True, False)
    """

    corruption: str
    severity: int
    seed: int

    @property
    def moves_labels(self) -> bool:
        """Return whether the objects move."""
        return self.corruption in VIEWS

    @property
    def strength(self) -> float:
        """Return the strength at this severity."""
        return SCALES[self.corruption].values[self.severity - 1]

    def change(self, sample: Sample, image: Pixels) -> Pixels:
        """Return the image of a sample, (h, w, 3) uint8 RGB at any resolution, with other pixels."""
        return CHANGES[self.corruption](image, self.strength, self._generator(sample.path.name))

    def view(self, sample: Sample) -> Matrix:
        """Return where the image of a sample moves to: (3, 3) float64, pixels of the original image."""
        return self._matrix((sample.height, sample.width), sample.path.name)

    def apply(self, image: Pixels, name: str) -> Pixels:
        """Return an image, corrupted; what a moved image leaves is grey.

        image: (H, W, 3) uint8 RGB. name: of its file, which seeds the draws.
        """
        if not self.moves_labels:
            return CHANGES[self.corruption](image, self.strength, self._generator(name))
        size = image.shape[0], image.shape[1]
        return warp_image(image, self._matrix(size, name), size, PADDING)

    def _matrix(self, size: tuple[int, int], name: str) -> Matrix:
        return VIEWS[self.corruption](size, self.strength, self._generator(name))

    def _generator(self, name: str) -> np.random.Generator:
        names = (self.corruption.encode(), name.encode("utf-8", "surrogateescape"))
        return np.random.default_rng([self.seed, *map(zlib.crc32, names)])


def corrupt(image: Pixels, corruption: str, severity: int, *, seed: int = 0, name: str = "") -> Pixels:
    """Return an image under one corruption, a pure function of the arguments.

    image:      (H, W, 3) uint8 RGB; it is not changed. The result has its shape and dtype.
    corruption: a key of `tlvision.analysis.robustness.severities.SCALES`.
    severity:   1 to 5.
    seed, name: seed of the random draws, and the name of the image, so that images differ in them.

    Raises InputError for another name or severity.

    >>> corrupt(np.full((2, 2, 3), 100, np.uint8), "darkness", 1)[0, 0].tolist()
    [60, 60, 60]
    """
    (corruption,), (severity,) = check_names([corruption]), check_severities([severity])
    return Condition(corruption, severity, seed).apply(image, name)


def check_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names in the order of `SCALES`, each once; InputError if there is none or one is unknown."""
    if not names:
        raise InputError(f"stress: expected a corruption or more, got none. Known: {', '.join(SCALES)}.")
    for name in names:
        if name not in SCALES:
            raise InputError(f"stress: unknown corruption '{clip(name)}'.{nearest(name, SCALES)}")
    return tuple(name for name in SCALES if name in names)


def check_severities(severities: Sequence[int]) -> tuple[int, ...]:
    """Return the severities in order, each once; InputError if there is none or one is not 1 to 5."""
    wrong = [severity for severity in severities if severity not in SEVERITIES]
    if wrong or not severities:
        got = shown(wrong[0]) if wrong else "none"
        raise InputError(f"stress: expected severities from 1 to {SEVERITIES[-1]}, got {got}")
    return tuple(sorted(set(severities)))
