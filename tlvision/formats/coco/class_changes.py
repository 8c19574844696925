"""Apply the changes of `data.classes` to a COCO json that has been read."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from tlvision.formats.coco.document import Document
from tlvision.types import ClassChanges, counted


def change_classes(document: Document, changes: ClassChanges, *, strict: bool) -> Document:
    """Return the document with its classes renamed and merged, without the annotations of dropped ones.

    strict: as for `ClassChanges.applied`.

    A merged class has the id of the first of its classes, in the order of the config, that the file has. The rows of
    `document` stay as they are.
    """
    if not changes:
        return document
    ids = {name: category_id for category_id, name in document.categories.items()}
    groups = changes.applied(tuple(ids), document.name, strict=strict)
    new_ids = {ids[old]: ids[members[0]] for members in groups.values() for old in members}
    annotations = [
        row if new_ids[row["category_id"]] == row["category_id"] else row | {"category_id": new_ids[row["category_id"]]}
        for row in document.annotations
        if row["category_id"] in new_ids
    ]
    categories = {ids[members[0]]: new for new, members in groups.items()}
    notes = (*document.notes, *_notes(document, groups))
    return replace(document, annotations=annotations, categories=categories, notes=notes)


def _notes(document: Document, groups: dict[str, list[str]]) -> list[str]:
    """Return a sentence for each class that is made from others, and for each that is dropped."""
    counts = Counter(row["category_id"] for row in document.annotations)
    named = {name: counts[category_id] for category_id, name in document.categories.items()}
    notes = [
        f"{document.name}: class '{new}' is " + " and ".join(f"'{old}' ({named[old]})" for old in members)
        for new, members in groups.items()
        if members != [new]
    ]
    kept = {old for members in groups.values() for old in members}
    return notes + [
        f"{document.name}: class '{name}' is dropped, with its {counted(count, 'annotation')}"
        for name, count in named.items()
        if name not in kept
    ]
