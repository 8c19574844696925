"""Corruptions by name, and the strength of each at severities 1 to 5.

Source: Hendrycks and Dietterich 2019, "Benchmarking Neural Network Robustness to Common Corruptions and Perturbations",
and Michaelis et al. 2019, "Benchmarking Robustness in Object Detection". The differences, which docs/robustness.md
explains: lengths are shares of the long side instead of pixels, noise and contrast are weaker, fog is a mixture with an
airlight, and darkness, occlusion, scale and rotation are not in those benchmarks.
"""

from __future__ import annotations

from dataclasses import dataclass

SEVERITIES = (1, 2, 3, 4, 5)


@dataclass(frozen=True, slots=True)
class Scale:
    """The strengths of one corruption.

    meaning: what the numbers are, with their unit.
    values:  one strength for each of the severities 1 to 5.
    """

    meaning: str
    values: tuple[float, float, float, float, float]


SCALES: dict[str, Scale] = {
    "brightness": Scale("added to the value of HSV, 0 to 1", (0.1, 0.2, 0.3, 0.4, 0.5)),
    "darkness": Scale("factor of every pixel", (0.6, 0.45, 0.32, 0.22, 0.14)),
    "contrast": Scale("factor of the distance to the mean colour", (0.5, 0.35, 0.25, 0.15, 0.08)),
    "defocus_blur": Scale("radius of the disc, share of the long side", (0.004, 0.008, 0.013, 0.019, 0.026)),
    "motion_blur": Scale("length of the path, share of the long side", (0.015, 0.03, 0.045, 0.065, 0.09)),
    "gaussian_noise": Scale("standard deviation, 0 to 1", (0.03, 0.06, 0.1, 0.16, 0.25)),
    "shot_noise": Scale("photons of a white pixel", (250, 90, 35, 15, 7)),
    "jpeg": Scale("JPEG quality, 1 to 100", (25, 18, 15, 10, 7)),
    "fog": Scale("mean opacity of the fog", (0.25, 0.4, 0.52, 0.64, 0.75)),
    "occlusion": Scale("covered share of the image", (0.05, 0.1, 0.16, 0.23, 0.3)),
    "scale": Scale("factor of width and height", (0.8, 0.65, 0.5, 0.4, 0.3)),
    "rotation": Scale("angle in degrees, to either side", (5, 10, 15, 20, 30)),
}
