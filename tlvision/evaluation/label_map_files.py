"""Evaluate label maps that lie in two folders, image by image: memory holds one pair at a time for each thread."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tlvision.evaluation.analysis import Analysis
from tlvision.evaluation.bootstrap import intervals
from tlvision.evaluation.boundary_iou import boundary_counts
from tlvision.evaluation.class_iou import metrics_of
from tlvision.evaluation.confusion import Counts, confusion
from tlvision.evaluation.label_map_analysis import LabelMapAnalysis, border_errors
from tlvision.evaluation.per_image import LabelMapsPerImage
from tlvision.types import InputError, listing

_THREADS = 4  # decoding and counting both let other threads run
_SLICE = 64


def label_map_iou(
    ground_truth: str | Path,
    predictions: str | Path,
    names: Sequence[str],
    *,
    stems: Sequence[str] | None = None,
    boundary: bool = False,
    analysis: Analysis | None = None,
) -> dict[str, Any]:
    """Return what `class_iou` returns for two folders of PNG label maps.

    ground_truth: folder of PNGs with class indices, 255 where nothing is known; also in folders below.
    predictions:  folder with a PNG of the same relative path for each.
    names:        the classes in the order of the index.
    stems:        relative paths without the suffix of those that count; None: every PNG of `ground_truth`.
    analysis:     add the key `analysis`: {"semantic": …} with the keys of `LabelMapAnalysis.as_json`, and with
                  `analysis.resamples` the key `intervals`.

    Raises InputError that names the file: a folder without label maps, a prediction that is missing, another size, a
    value that is no class, a file that cannot be read. Predictions without ground truth are an error as well.
    """
    truth_dir, found_dir = Path(ground_truth), Path(predictions)
    wanted = sorted(stems) if stems is not None else _stems(truth_dir)
    if not wanted:
        raise InputError(f"{truth_dir}: no label maps (PNG) to compare with")
    present = _stems(found_dir)
    missing, others = sorted(set(wanted) - set(present)), sorted(set(present) - set(wanted))
    if missing:
        raise InputError(f"{found_dir}: {len(missing)} of {len(wanted)} label maps are missing: {listing(missing)}")
    if others:
        raise InputError(f"{found_dir}: {len(others)} label maps have no ground truth: {listing(others)}")
    folders, detailed = (truth_dir, found_dir), analysis is not None
    count = partial(_count, folders=folders, classes=len(names), boundary=boundary, analysis=detailed)
    details = LabelMapAnalysis(names)
    matrix, edges = np.zeros((len(names), len(names)), np.int64), np.zeros((len(names), 2), np.int64)
    pixels = 0
    with ThreadPoolExecutor(_THREADS) as pool:
        for first in range(0, len(wanted), _SLICE):
            part = wanted[first : first + _SLICE]
            for stem, (one, edge, borders, size) in zip(part, pool.map(count, part), strict=True):
                matrix += one
                edges += edge
                pixels += size
                if borders is not None:
                    details.add(stem, one, borders)
    metrics = metrics_of(matrix, names, len(wanted), pixels, edges if boundary else None)
    if analysis is None:
        return metrics
    ranges = intervals(LabelMapsPerImage.of(names, wanted, details.matrices), analysis.resamples)
    return {**metrics, "analysis": {"semantic": details.as_json(matrix)}, **ranges}


def label_maps_per_image(
    ground_truth: str | Path, predictions: str | Path, names: Sequence[str], *, stems: Sequence[str]
) -> LabelMapsPerImage:
    """Return the pixels of each image of two folders of label maps; arguments and errors as for `label_map_iou`."""
    folders = Path(ground_truth), Path(predictions)
    count = partial(_count, folders=folders, classes=len(names), boundary=False, analysis=False)
    with ThreadPoolExecutor(_THREADS) as pool:
        matrices = [matrix for matrix, *_ in pool.map(count, stems)]
    return LabelMapsPerImage.of(names, stems, matrices)


def _count(
    stem: str, *, folders: tuple[Path, Path], classes: int, boundary: bool, analysis: bool
) -> tuple[Counts, Counts, tuple[Counts, Counts] | None, int]:
    from tlvision.formats.label_maps.files import read_values  # not with the module: it brings faster_coco_eval along

    truth, found = (read_values(folder / f"{stem}.png") for folder in folders)
    matrix = confusion(truth, found, classes, f"{folders[1] / stem}.png")
    edges = boundary_counts(truth, found, classes) if boundary else np.zeros((classes, 2), np.int64)
    return matrix, edges, border_errors(truth, found) if analysis else None, truth.size


def _stems(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"no folder '{folder}' of label maps")
    return sorted(str(path.relative_to(folder).with_suffix("")) for path in folder.rglob("*.png"))
