"""What training itself refuses or notes about the data of a config, in the same words."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from tlvision.analysis.doctor.findings import Finding, Part
from tlvision.config.schema import Config, DatasetSettings
from tlvision.engine.build import render_data
from tlvision.engine.check_data import check_images, check_overlap
from tlvision.engine.datasets import label_options, measure_options, read_dataset
from tlvision.engine.labels import resolve_labels
from tlvision.formats.coco import load_document
from tlvision.plugin import get_plugin
from tlvision.tasks import Task, get_task
from tlvision.types import ClassMap, InputError, Json

NAMES = ("train", "val", "source_val", "oracle")


def read_parts(config: Config) -> tuple[list[Part], list[Finding]]:
    """Return the datasets of a config that can be read, and what training says about all of them."""
    task = get_task(get_plugin(config.model.plugin).task_of(config.model.arch))
    render_data(config)
    try:
        config, sentences = resolve_labels(config)
    except InputError as error:
        return [], [Finding("error", "labels", str(error))]
    findings = [Finding("note", "labels", sentence) for sentence in sentences]
    parts: list[Part] = []
    classes: ClassMap | None = None
    for name in NAMES:
        settings: DatasetSettings | None = getattr(config.data, name)
        if settings is None:
            continue
        try:
            data = read_dataset(task, settings, name, label_options(config.data), classes)
        except InputError as error:
            findings.append(Finding("error", "labels", f"data.{name}: {error}"))
            continue
        findings += [Finding("warning", "labels", f"data.{name}: {sentence}") for sentence in data.skipped]
        parts.append(Part(name, data, *_rows(settings)))
        classes = classes or data.classes
    return parts, findings + _checked(config, task, parts)


def _rows(settings: DatasetSettings) -> tuple[dict[int, list[Json]], dict[int, str]]:
    """Return the annotations of a COCO json by image id, and its class names by category id."""
    if settings.json_ is None or settings.masks is not None:
        return {}, {}
    found: dict[int, list[Json]] = defaultdict(list)
    document = load_document(Path(settings.json_), require_objects=False)
    for row in document.annotations:
        found[row["image_id"]].append(row)
    return found, document.categories


def _checked(config: Config, task: Task, parts: list[Part]) -> list[Finding]:
    """Return what training says about what it has read."""
    data = {part.name: part.data for part in parts}
    train, val = data.get("train"), data.get("val", data.get("source_val"))
    findings = []
    try:
        notes = [] if train is None else [*task.check_train(train), *check_images(train)]
        if val is not None:
            notes += task.check_measurable(val, measure_options(config), task.metrics()[0].name)
        if train is not None and val is not None:
            notes += check_overlap(train, val)
        findings = [Finding("warning", "training", note) for note in notes]
    except InputError as error:
        findings.append(Finding("error", "training", str(error)))
    return findings
