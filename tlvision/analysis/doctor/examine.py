"""Run all checks on the datasets of a config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tlvision.analysis.doctor.annotators import annotator_agreement
from tlvision.analysis.doctor.artifacts import artifacts
from tlvision.analysis.doctor.doubtful_labels import labels_against_file, labels_against_run
from tlvision.analysis.doctor.file_groups import shared_groups
from tlvision.analysis.doctor.findings import Finding, Part, worst
from tlvision.analysis.doctor.image_measures import Measured, measure_images
from tlvision.analysis.doctor.label_map_classes import presence, rare_pixels
from tlvision.analysis.doctor.object_counts import object_counts
from tlvision.analysis.doctor.objects import class_balance, label_conflicts, suspicious_boxes
from tlvision.analysis.doctor.pictures import pictures
from tlvision.analysis.doctor.reading import read_parts
from tlvision.analysis.doctor.resemblance import nearly_binary, resemblance
from tlvision.analysis.doctor.stamps import stamps
from tlvision.config.schema import Config

LABEL_CHECKS: tuple[Callable[[Sequence[Part]], list[Finding]], ...] = (
    label_conflicts,
    suspicious_boxes,
    class_balance,
    rare_pixels,
    annotator_agreement,
    shared_groups,
)
IMAGE_CHECKS: tuple[Callable[[Sequence[Measured]], list[Finding]], ...] = (pictures, resemblance, nearly_binary)


def examine(
    config: Config, *, run: Path | None = None, predictions: Path | None = None
) -> tuple[list[Part], list[Finding]]:
    """Return the datasets of a config that can be read, and all findings, the worst first; nothing is trained.

    run:         a trained run, with whose predictions the labels are compared.
    predictions: a COCO results list with which the labels of data.train are compared, such as out-of-fold predictions.

    Raises InputError if `run` or `predictions` cannot be used with these datasets.
    """
    parts, findings = read_parts(config)
    for check in LABEL_CHECKS:
        findings += check(parts)
    findings += object_counts(parts, config.data.image_size)
    images = measure_images(parts)
    fine = [image for image in images if not image.problem]
    findings += [finding for check in IMAGE_CHECKS for finding in check(fine if check is not pictures else images)]
    train = [image for image in fine if image.part.name == "train"]
    present = presence(train[0].part, [image.sample for image in train]) if train else None
    findings += artifacts(fine, present)
    if present is not None:
        findings += stamps(train, present)
    if run is not None:
        findings += labels_against_run(parts, run)
    if predictions is not None:
        findings += labels_against_file(parts, predictions)
    return parts, worst(findings)
