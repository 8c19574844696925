"""Let a config name labels of any format: they are written as COCO jsons or label maps beside the runs."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.files.json_files import write_json
from tlvision.formats.label_maps import CLASS, find_class_masks, read_class_file
from tlvision.types import InputError, counted, listing

if TYPE_CHECKING:
    from tlvision.config.schema import Config, DatasetSettings, DataSettings
    from tlvision.formats.exchange import Labels

FOLDER = ".labels"
_PARTS = {
    "train": ("train", "all"),
    "val": ("val", "valid", "test", "all"),
    "source_val": ("val", "valid", "test", "all"),
    "oracle": ("train", "all"),
}
"""Key below `data` -> parts of a dataset that it means, the first one that there is."""


Known = dict[tuple[str, str, str], tuple["DatasetSettings", str]]
"""(key below `data`, labels, images) -> what was read."""


def resolve_labels(config: Config, folder: Path | None = None, known: Known | None = None) -> tuple[Config, list[str]]:
    """Return a config whose labels are COCO jsons or label maps, and a sentence on each dataset of another format.

    Such labels are written to `.labels` beside `run.out`, named by a hash of their content: a run can be resumed after
    the source has changed. Masks of single classes become label maps, and `data.classes` names their classes.

    folder: where to write instead. known: is filled, so that several configs read each dataset once.

    Raises InputError as `tlvision.formats.exchange.read_any` and `find_class_masks`, and if a dataset has no part of
    that name.
    """
    sentences = []
    known = {} if known is None else known
    folder = folder or Path(config.run.out).parent / FOLDER
    for name in _PARTS:
        settings: DatasetSettings | None = getattr(config.data, name)
        if settings is None:
            continue
        changed: dict[str, object] = {}
        if settings.masks is not None and CLASS in settings.masks:
            found, classes, sentence = _join_masks(settings, name, config.data, folder)
            changed["classes"] = classes
        elif settings.json_ is not None and settings.masks is None and is_foreign(settings.json_):
            key = name, settings.json_, settings.images
            if key not in known:
                known[key] = as_coco(settings, name, folder)
            found, sentence = known[key]
        else:
            continue
        changed[name] = found.model_copy(update={"subset": settings.subset})
        sentences.append(sentence)
        config = config.model_copy(update={"data": config.data.model_copy(update=changed)})
    return config, sentences


def _join_masks(
    settings: DatasetSettings, name: str, data: DataSettings, folder: Path
) -> tuple[DatasetSettings, object, str]:
    """Return settings of label maps that are joined from masks of single classes, `data.classes`, and a sentence."""
    from tlvision.config.schema import ClassSettings

    assert settings.masks is not None
    given = data.classes.names if isinstance(data.classes, ClassSettings) else data.classes
    if isinstance(given, str):
        given = list(read_class_file(given))
    if isinstance(given, dict):
        raise InputError("data.classes: masks of single classes have no values. Give a list of names, or nothing")
    background = data.unlabelled == "background"
    masks = find_class_masks(settings.masks, settings.images, given, background=background)
    out = folder / f"masks-{name}-{masks.digest}"
    notes = masks.write(out)
    names = list(masks.names)
    classes = data.classes.model_copy(update={"names": names}) if isinstance(data.classes, ClassSettings) else names
    sentence = f"data.{name}: masks of {listing(names, 20)} for {counted(len(masks.images), 'image')}, joined in {out}"
    return settings.model_copy(update={"masks": str(out)}), classes, "; ".join((sentence, *notes))


def is_foreign(labels: str) -> bool:
    """Return whether labels are in another format than COCO; a list in a json is Label Studio's, or of predictions."""
    path = Path(labels)
    if path.is_dir() or path.suffix.lower() != ".json":
        return path.exists()
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(1 << 16).lstrip()
    return start.startswith(b"[") and b'"data"' in start


def as_coco(settings: DatasetSettings, name: str, folder: Path) -> tuple[DatasetSettings, str]:
    """Return the settings of the COCO json of a dataset, which is written into `folder`, and what was found."""
    from tlvision.formats.exchange import read_any, to_coco

    assert settings.json_ is not None
    source = Path(settings.json_)
    parts = read_any(source, Path(settings.images) if settings.images else None)
    part = next((each for each in _PARTS[name] if each in parts), None)
    if part is None:
        raise InputError(
            f"data.{name}.json: '{source}' has the parts {listing(parts)}, none of {listing(_PARTS[name])}"
        )
    labels = parts[part]
    path = folder / f"{source.stem or 'labels'}-{part}-{_digest(labels)}.json"
    if not path.exists():
        write_json(path, to_coco(labels))
    notes = "".join(f"; {note}" for note in labels.notes)
    found = settings.model_copy(update={"json_": str(path), "images": str(labels.images)})
    return found, f"data.{name}: {source} is {labels.summary()}, read as {path}{notes}"


def _digest(labels: Labels) -> str:
    """Return a hash of what is written."""
    return hashlib.sha256(repr((labels.classes, labels.pictures)).encode()).hexdigest()[:12]
