"""The common part of labelled datasets of all formats."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from tlvision.types.class_map import ClassMap
from tlvision.types.sample import Sample


class Dataset(Protocol):
    """A labelled dataset as a reader returns it; readers of a format add fields of their own.

    path:       the file or folder of the labels.
    images_dir: the folder that names of images are relative to.
    samples:    one per image; images without objects are kept.
    classes:    the classes that labels index.
    skipped:    notes on what was skipped or changed, one sentence each.
    bits:       bits in use of images with 16-bit values; None if no image has them.
    """

    @property
    def path(self) -> Path: ...  # noqa: D102

    @property
    def images_dir(self) -> Path: ...  # noqa: D102

    @property
    def samples(self) -> tuple[Sample, ...]: ...  # noqa: D102

    @property
    def classes(self) -> ClassMap: ...  # noqa: D102

    @property
    def skipped(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def bits(self) -> int | None: ...  # noqa: D102
