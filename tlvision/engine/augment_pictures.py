"""Draw training inputs as the model gets them: augmented, with their labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision import terminal
from tlvision.config.load import load_config
from tlvision.data.images import write_image
from tlvision.engine.build import build_run, training_images, unlabelled_images
from tlvision.engine.summary import describe
from tlvision.files.outputs import output_folder
from tlvision.report.draw import contact_sheet, draw_target
from tlvision.types import InputError, counted

COMMAND = "show"
_COLUMNS = 4
_WIDTH = 1600
_MOST = 400


def show_augmented(
    config: str | Path | Mapping[str, Any],
    count: int,
    out: Path,
    overrides: Sequence[str] = (),
    extra: Sequence[str] = (),
) -> None:
    """Write `augmented.png`, a grid of the first inputs of a training run with their labels, without training.

    config, overrides, extra: as for `tlvision train`.
    count: number of inputs, 1 to 400. They are those of the first steps, before the mosaics end.
    out:   a new or empty folder, or one that this command wrote.

    Raises InputError as a training does, or if `out` may not be written.
    """
    if not 1 <= count <= _MOST:
        raise InputError(f"show: --augment needs a number of images from 1 to {_MOST}, got {count}")
    console = terminal.console(140)
    parts = build_run(load_config(config, overrides, extra))
    describe(console, parts)
    images = training_images(parts, unlabelled_images(parts))
    drawn = (images.draw(position, mosaic=True) for position in range(count))
    pictures = [draw_target(pixels, target, parts.classes.names) for pixels, target, _ in drawn]
    with output_folder(out, COMMAND, inputs=[sample.path for sample in parts.train.samples]):
        write_image(out / "augmented.png", contact_sheet(pictures, min(_COLUMNS, count), _WIDTH))
    console.print(f"{counted(count, 'training input')} with their labels: {out / 'augmented.png'}", soft_wrap=True)
