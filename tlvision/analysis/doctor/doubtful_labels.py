"""Findings about labels that predictions contradict; see `label_noise` for objects and `pixel_noise` for label maps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlvision.analysis.doctor.findings import Finding, Part, file_of
from tlvision.analysis.doctor.label_noise import KINDS, Candidate, label_noise
from tlvision.analysis.doctor.pixel_noise import pixel_noise
from tlvision.analysis.doctor.predictions import (
    MAX_DETECTIONS,
    SCORE_FLOOR,
    Found,
    of_file,
    of_run,
    seen_sentence,
    training_images,
)
from tlvision.engine.model import load
from tlvision.types import InputError, Json, counted, listing

SENTENCES = {
    "missing": (("place", "places"), "without a label in which an object is predicted with confidence"),
    "class": (("label", "labels"), "of a class other than the predicted one"),
    "box": (("label", "labels"), "with a box that overlaps the predicted one in part (IoU of 0.3 to 0.6)"),
    "group": (("label", "labels"), "with one box around several predicted objects"),
    "nothing": (("label", "labels"), "at which nothing is predicted"),
}
CHECK = "label_noise"


def labels_against_run(parts: Sequence[Part], run: Path) -> list[Finding]:
    """Return labels that the predictions of a trained run contradict, of all datasets.

    Raises InputError as `tlvision.engine.model.load`, and if the run predicts other labels than the datasets have.
    """
    model = load(run, score_floor=SCORE_FLOOR, max_detections=MAX_DETECTIONS)
    trained_on = training_images(model)
    maps = "label_map" in model.task.labels
    findings: list[Finding] = []
    for part in parts:
        if not maps and not part.categories:
            raise InputError(
                f"doctor: --run '{run}' is of the task '{model.task.name}', and data.{part.name} has no COCO json of "
                "objects. Give a run of the task of the config."
            )
        if maps:
            about = seen_sentence(model, part, trained_on, "Use a run that was not trained on them")
            findings += _of_label_maps(part, pixel_noise(model, part), about)
        else:
            findings += _of_objects(part, of_run(model, part, trained_on))
    return findings


def labels_against_file(parts: Sequence[Part], predictions: Path) -> list[Finding]:
    """Return labels of data.train that predictions in a COCO results list contradict.

    Raises InputError as `tlvision.analysis.doctor.predictions.of_file`, and if data.train has no boxes.
    """
    train = next((part for part in parts if part.name == "train"), None)
    if train is None or not train.categories:
        raise InputError("doctor: --predictions needs a data.train with a COCO json of objects that can be read.")
    return _of_objects(train, of_file(predictions, train))


def _of_objects(part: Part, found: Found) -> list[Finding]:
    names = part.data.classes.names
    index = {number: names.index(name) for number, name in part.categories.items() if name in names}
    unusable: frozenset[int] = getattr(part.data, "unusable", frozenset())
    samples = {sample.image_id: sample for sample in part.data.samples}
    rows = [
        row
        for number in samples
        for row in part.rows.get(number, [])
        if index.get(row["category_id"]) in found.classes and row["id"] not in unusable
    ]
    labels: list[Json] = [
        {
            "image_id": row["image_id"],
            "category_id": index[row["category_id"]],
            "bbox": row["bbox"],
            "iscrowd": int(row.get("iscrowd") or 0),
        }
        for row in rows
    ]
    candidates = label_noise(names, list(samples), labels, found.rows)

    def place(one: Candidate) -> dict[str, Any]:
        where: dict[str, Any] = {"part": part.name, "file": file_of(part, samples[one.image_id])}
        if one.row is not None and one.label is not None:
            where |= {"annotation": rows[one.row]["id"], "label": names[one.label]}
        if one.predicted is not None and one.box is not None:
            where |= {"predicted": names[one.predicted], "box": [round(value, 2) for value in one.box]}
        return {**where, "score": round(one.score, 4)}

    findings = []
    for kind in KINDS:
        places = tuple(place(each) for each in candidates if each.kind == kind)
        if places:
            words, rest = SENTENCES[kind]
            findings.append(Finding("note", CHECK, f"data.{part.name}: {counted(len(places), *words)} {rest}", places))
    absent = [name for label, name in enumerate(names) if label not in found.classes]
    if absent:
        sentence = f"data.{part.name}: labels of {counted(len(absent), 'class')} cannot be compared, not predicted"
        findings.append(Finding("note", CHECK, f"{sentence}: {listing(absent)}"))
    return _with_remark(findings, part, found.about)


def _of_label_maps(part: Part, places: Sequence[dict[str, Any]], about: str) -> list[Finding]:
    findings = []
    if places:
        what = counted(len({place["file"] for place in places}), "image")
        sentence = f"data.{part.name}: {what} with regions whose label a confident prediction contradicts"
        findings.append(Finding("note", CHECK, sentence, tuple(places)))
    return _with_remark(findings, part, about)


def _with_remark(findings: list[Finding], part: Part, about: str) -> list[Finding]:
    return [*findings, Finding("warning", CHECK, f"data.{part.name}: {about}")] if about else findings
