"""Read labels from a COCO json, for tasks on objects and for label maps drawn from objects."""

from __future__ import annotations

from tlvision.formats.coco import CocoData, read_coco
from tlvision.tasks.base import LabelOptions, Source
from tlvision.types import ClassMap, InputError


def read_json(
    source: Source,
    options: LabelOptions,
    classes: ClassMap | None,
    *,
    task: str,
    require_objects: bool,
    require_masks: bool,
) -> CocoData:
    """Read a COCO json; InputError if `source` gives label maps, or classes with values of label maps."""
    if source.json is None:
        raise InputError(
            f"data.{source.name}.masks: label maps are for semantic models, this one is for the task '{task}'; give a "
            f"COCO json as data.{source.name}.json"
        )
    if isinstance(options.classes, dict):
        raise InputError(
            "data.classes: names with values are for label maps; a COCO json has ids of its own, so give a list "
            "of names"
        )
    if options.classes is not None and (options.changes or options.only):
        raise InputError(
            "data.classes.names: names are for label maps; a COCO json has its own. For some of its classes: "
            "data.classes.only"
        )
    if source.masks is not None:
        raise InputError(
            f"data.{source.name}: the task '{task}' takes a json without masks. Remove data.{source.name}.masks."
        )
    return read_coco(
        source.json,
        source.images,
        classes,
        class_names=tuple(options.classes) if options.classes is not None else options.only,
        changes=options.changes,
        require_objects=require_objects,
        require_masks=require_masks,
        exif=options.exif,
        bits=options.bits,
    )
