"""`tlvision evaluate --run RUN [--json J --images D]`, or of two files: `--gt GT --predictions P`.

With two files: `--iou KIND`, or `--pseudo-labels`.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tlvision.files.json_files import write_text
from tlvision.files.outputs import check_file, check_folder, output_folder
from tlvision.types import InputError

if TYPE_CHECKING:
    from tlvision.evaluation import Analysis
    from tlvision.evaluation.operating_point import Rule

COMMAND = "evaluate"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the verb."""
    parser.add_argument("--run", "--bundle", metavar="RUN", help="folder of a trained run, or of an exported bundle")
    parser.add_argument("--json", metavar="JSON", help="with --run: evaluate on this COCO json instead of its own")
    parser.add_argument("--images", metavar="DIR", help="with --json: the folder of its images")
    parser.add_argument("--masks", metavar="DIR", help="with --images, a semantic model: the folder of label maps")
    parser.add_argument("--gt", metavar="PATH", help="ground truth: a COCO json, or a folder of PNG label maps")
    parser.add_argument("--predictions", metavar="PATH", help="with --gt: a COCO results json, or a folder of PNGs")
    parser.add_argument("--classes", metavar="FILE", help="with folders: the class names, one a line, in index order")
    parser.add_argument("--boundary", action="store_true", help="with folders: boundary IoU as well")
    parser.add_argument(
        "--iou",
        choices=("auto", "bbox", "segm", "both"),
        help="with --gt: compare boxes, masks or both; auto (the default): masks as well if both files have some",
    )
    parser.add_argument(
        "--pseudo-labels",
        action="store_true",
        help="with --gt, boxes: precision and recall of the predictions as labels, per class and over score thresholds",
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="detections that count for an image and class (default: 100, or the value of the run's config)",
    )
    parser.add_argument(
        "--tiles",
        type=int,
        metavar="SIZE",
        help="with --run: cut images larger than SIZE pixels into tiles; 0: whole images (default: as the run)",
    )
    parser.add_argument(
        "--operating-point",
        metavar="RULE",
        help="with --gt, objects: how the threshold of a class is chosen: f1 (default), precision=0.9 or recall=0.95",
    )
    parser.add_argument("--output", metavar="FILE", help="write the metrics here as well, as JSON")
    parser.add_argument("--csv", metavar="DIR", help="write the figures here as CSV files, into a new or empty folder")


def run(options: argparse.Namespace) -> None:
    """Evaluate, print the table, and write the metrics if requested."""
    _check_flags(options)
    inputs = [Path(each) for each in _inputs(options) if each]
    if options.output:
        check_file(Path(options.output), "evaluate", inputs=inputs, own_keys=_OWN_KEYS)
    if options.csv:
        check_folder(Path(options.csv), COMMAND, inputs=inputs)
    from tlvision.evaluation import Analysis, format_metrics, format_quality, pseudo_label_quality
    from tlvision.formats.coco import write_json

    if options.gt is not None:
        if Path(options.gt).is_dir():
            metrics = _evaluate_folders(options)
        elif options.pseudo_labels:
            metrics = pseudo_label_quality(options.gt, options.predictions)
        else:
            metrics = _evaluate_files(options, Analysis(_rule(options.operating_point)))
        print(format_quality(metrics) if options.pseudo_labels else format_metrics(metrics))
    else:
        from tlvision.engine.evaluate import evaluate_run
        from tlvision.tasks import get_task

        metrics, folder = evaluate_run(
            Path(options.run),
            options.json and Path(options.json),
            options.images and Path(options.images),
            options.masks and Path(options.masks),
            max_detections=options.max_detections,
            tiles=options.tiles,
        )
        print(format_metrics(metrics))
        predictions = get_task(metrics["task"]).results_name
        print(f"predictions    {folder / predictions}\nmetrics        {folder / 'metrics.json'}")
    if options.output:
        write_json(options.output, metrics)
        print(f"metrics        {options.output}")
    if options.csv:
        _write_csv(metrics, Path(options.csv), inputs)


def _write_csv(metrics: dict[str, Any], folder: Path, inputs: list[Path]) -> None:
    from tlvision.evaluation import csv_files

    with output_folder(folder, COMMAND, inputs=inputs) as out:
        for name, text in csv_files(metrics).items():
            write_text(out / name, text)
    print(f"csv            {folder}")


def _rule(text: str | None) -> Rule:
    """Return the rule that a flag such as "precision=0.9" names."""
    from tlvision.evaluation.operating_point import Rule

    goal, _, value = (text or "f1").partition("=")
    number = re.fullmatch(r"\d*\.?\d+", value)
    if goal == "f1" and not value:
        return Rule()
    if goal not in ("precision", "recall") or not number:
        raise InputError(f"evaluate: --operating-point is f1, precision=0.9 or recall=0.95, got '{text}'")
    return Rule("precision" if goal == "precision" else "recall", float(value))


# The keys of what is written: metrics, and the quality of pseudo-labels.
_OWN_KEYS = ({"task", "protocol", "per_class", "counts"}, {"iou", "thresholds", "counts", "per_class", "all"})


def _inputs(options: argparse.Namespace) -> list[str | None]:
    return [options.gt, options.predictions, options.classes, options.run, options.json, options.images, options.masks]


# Flags that go with --run, with two files, and with two folders.
_FLAGS = {
    "run": {"json", "images", "masks", "max_detections", "tiles"},
    "files": {"predictions", "iou", "pseudo_labels", "max_detections", "operating_point"},
    "folders": {"predictions", "classes", "boundary"},
}


def _check_flags(options: argparse.Namespace) -> None:
    """Raise InputError if flags do not go together, or one has no effect."""
    if (options.run is None) == (options.gt is None):
        raise InputError("evaluate: give either --run RUN, or --gt GT with --predictions P")
    if options.gt is not None and options.predictions is None:
        raise InputError("evaluate: --gt needs --predictions, a COCO results json or a folder of label maps")
    if options.pseudo_labels:
        _check_pseudo_labels(options)
    kind = "run" if options.run is not None else "folders" if Path(options.gt).is_dir() else "files"
    for flag in sorted(set.union(*_FLAGS.values()) - _FLAGS[kind]):
        if getattr(options, flag) not in (None, False):
            name, what = flag.replace("_", "-"), {"run": "a run", "files": "two files", "folders": "two folders"}[kind]
            homes = [home for home, flags in _FLAGS.items() if flag in flags]
            where = {"run": "--run", "files": "two files (--gt, --predictions)", "folders": "two folders of label maps"}
            raise InputError(
                f"evaluate: --{name} has no effect on {what}; it goes with {' or '.join(where[home] for home in homes)}"
            )
    if options.max_detections is not None and not 3 <= options.max_detections <= 10_000:
        raise InputError(f"evaluate: --max-detections must be from 3 to 10000, got {options.max_detections}")
    if options.pseudo_labels and (options.operating_point or options.csv):
        raise InputError("evaluate: --operating-point and --csv have no effect with --pseudo-labels")
    if options.pseudo_labels and options.max_detections is not None:
        raise InputError("evaluate: --max-detections has no effect with --pseudo-labels, which count every prediction")


def _check_pseudo_labels(options: argparse.Namespace) -> None:
    if options.gt is None or Path(options.gt).is_dir() or options.iou is not None:
        raise InputError(
            "evaluate: --pseudo-labels compares boxes of two files: give --gt, a COCO json, and --predictions, a COCO "
            "results json, and no --iou"
        )


def _evaluate_folders(options: argparse.Namespace) -> dict[str, Any]:
    from tlvision.evaluation import Analysis, label_map_iou
    from tlvision.formats.label_maps import read_class_file

    if options.classes is None:
        raise InputError("evaluate: label maps need --classes, a text file with one class name a line, in index order")
    names = tuple(read_class_file(options.classes))
    return label_map_iou(options.gt, options.predictions, names, boundary=options.boundary, analysis=Analysis())


def _evaluate_files(options: argparse.Namespace, analysis: Analysis) -> dict[str, Any]:
    from tlvision.evaluation import coco_map, has_masks, instance_map, three_limits

    ground_truth, predictions, iou = options.gt, options.predictions, options.iou or "auto"
    limits = three_limits(options.max_detections or 100)

    if iou == "auto":
        labelled, found = has_masks(ground_truth), has_masks(predictions)
        iou = "both" if labelled and found else "bbox"
        if found and not labelled:
            print(f"note           {ground_truth} has no masks: only boxes are compared")
    if iou == "both":
        return instance_map(ground_truth, predictions, max_detections=limits, analysis=analysis)
    kind: Literal["bbox", "segm"] = "segm" if iou == "segm" else "bbox"
    return coco_map(ground_truth, predictions, iou_type=kind, max_detections=limits, analysis=analysis)
