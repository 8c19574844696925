"""Move the labels of samples as a corruption moves their images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tlvision.analysis.robustness.corruptions import Condition
from tlvision.data.dataset import TargetParts
from tlvision.data.geometry import warp_mask
from tlvision.data.targets import move_sample, semantic_map
from tlvision.formats.label_maps import write_label_map
from tlvision.types import IGNORE_INDEX, LabelMapFile, Sample, empty_target

MIN_VISIBLE = 0.5
"""An object of which the frame shows a smaller share of its area counts neither as missed nor as a false positive."""


def move_labels(
    samples: Sequence[Sample], condition: Condition, parts: TargetParts, folder: Path
) -> tuple[Sample, ...]:
    """Return the samples with labels that fit their images under a condition.

    parts:  which labels the task has, from `Task.targets`.
    folder: gets a PNG for each sample if those are label maps. Pixels that the image leaves are ignored.
    """
    if not condition.moves_labels:
        return tuple(samples)
    if not parts.label_map:
        return tuple(move_sample(sample, condition.view(sample), min_visible=MIN_VISIBLE) for sample in samples)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number}.png" for number in range(len(samples))]
    return tuple(
        _move_label_map(sample, condition, parts.background, path) for sample, path in zip(samples, paths, strict=True)
    )


def _move_label_map(sample: Sample, condition: Condition, background: int | None, path: Path) -> Sample:
    labels = semantic_map(sample, background)
    write_label_map(path, warp_mask(labels, condition.view(sample), labels.shape, IGNORE_INDEX))
    file = LabelMapFile(path, {value: value for value in range(IGNORE_INDEX + 1)})
    return replace(sample, target=empty_target(), segments=(), label_map=file)
