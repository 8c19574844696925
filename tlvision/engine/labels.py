"""Let a config name labels of any format: they are written as COCO jsons beside the runs, and those are read."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.files.json_files import write_json
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from tlvision.config.schema import Config, DatasetSettings
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


def with_coco_labels(
    config: Config, folder: Path | None = None, known: Known | None = None
) -> tuple[Config, list[str]]:
    """Return a config whose labels are COCO jsons, and a sentence on each dataset that is read from another format.

    Such labels are written to `.labels` beside `run.out`, named by a hash of their content: a run can be resumed after
    the source has changed.

    folder: where to write instead. known: is filled, so that several configs read each dataset once.

    Raises InputError as `tlvision.formats.exchange.read_any`, and if a dataset has no part of that name.
    """
    changed, sentences = {}, []
    known = {} if known is None else known
    for name in _PARTS:
        settings: DatasetSettings | None = getattr(config.data, name)
        if settings is None or settings.json_ is None or settings.masks is not None or not is_foreign(settings.json_):
            continue
        key = name, settings.json_, settings.images
        if key not in known:
            known[key] = as_coco(settings, name, folder or Path(config.run.out).parent / FOLDER)
        found, sentence = known[key]
        changed[name] = found.model_copy(update={"subset": settings.subset})
        sentences.append(sentence)
    if not changed:
        return config, []
    return config.model_copy(update={"data": config.data.model_copy(update=changed)}), sentences


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
