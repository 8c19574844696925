"""Measure the distance between two image sets for a model, and write tables, advice, JSON and a picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from tlvision import terminal
from tlvision.analysis.domain_gap.advice import TapGap, advise, as_json, largest
from tlvision.analysis.features import GapModel, ImageStatistics, ModelChoice, Numbers, choose_model, extract, join
from tlvision.data.images import write_image
from tlvision.data.settings import MAX_SEED
from tlvision.evaluation.distances import (
    MIN_IMAGES,
    Measured,
    class_shift,
    feature_gap,
    mean_shift,
    principal_components,
    standardise,
)
from tlvision.files.inputs import path_problem
from tlvision.files.outputs import check_folder, output_folder
from tlvision.formats.coco import read_images, write_json
from tlvision.report.colours import PALETTE
from tlvision.report.figures import PointGroup, scatter
from tlvision.types import ImageFile, InputError, RunError, nearest
from tlvision.types.shown import shown

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = "(colours)"
_MOST_CLASSES = 12


@dataclass(frozen=True, slots=True)
class ImageSource:
    """One side: a folder of images, and a json that selects some of them (None: all). No label is read."""

    images: Path
    json_path: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GapSettings:
    """Settings of the measurement.

    limit: most images of a side, at least 8; evenly spread over it in the order of file names, or of the json.
    tap:   the tap to draw; None takes the one with the largest gap.
    seed:  of random subsets, permutations, and of weights that the model lacks.
    out:   folder for `domain_gap.json` and `domain_gap.png`.
    """

    limit: int = 200
    tap: str | None = None
    seed: int = 0
    out: Path = Path("runs/domain_gap")


def domain_gap(a: ImageSource, b: ImageSource, model: ModelChoice, settings: GapSettings) -> dict[str, Any]:
    """Measure how far apart two sets of images are for a model, print tables and advice, write json and picture.

    Returns what `<out>/domain_gap.json` holds: model, a and b (name, path, images), seed, taps (see
    `tlvision.analysis.domain_gap.advice.as_json`), largest (the tap with the largest gap), predictions (None, or class
    shares and statistics of both sides), predictions_left_out (why there are none), advice.

    Raises InputError: a folder that is absent or has fewer than 8 images, an image that cannot be read, no model or two
    of them, a tap that the model does not have. Raises RunError if a feature is not finite.

    Example: ``domain_gap(ImageSource(Path("day")), ImageSource(Path("dusk")), ModelChoice(run=Path("runs/day")),
    GapSettings())``
    """
    if settings.limit < MIN_IMAGES:
        raise InputError(f"domain-gap: --limit: expected {MIN_IMAGES} images or more of a side, got {settings.limit}")
    if not 0 <= settings.seed <= MAX_SEED:
        raise InputError(f"domain-gap: --seed: expected an integer from 0 to {MAX_SEED}, got {shown(settings.seed)}")
    if problem := path_problem(str(settings.out)):
        raise InputError(f"domain-gap: --out: the path {problem}. Give the path of a folder.")
    check_folder(settings.out, COMMAND, inputs=_inputs(a, b, model))
    files = {side: _read(source, side, settings.limit) for side, source in (("A", a), ("B", b))}
    names = _names(a, b)
    opened = choose_model(model, settings.seed)
    _check_tap(opened, settings.tap)
    console = terminal.console(120)
    seen, fresh = _look_at(console, opened, files, names)
    taps = _measure(opened, seen, fresh, settings.seed)
    widest = largest(taps).name
    predictions, shift = _predictions(opened, seen, settings.seed)
    advice = advise(taps, shift)
    result = {
        "model": opened.title,
        "image_size": opened.image_size,
        "seed": settings.seed,
        **{
            side.lower(): {"name": name, "path": str(source.json_path or source.images), "images": len(files[side])}
            for side, name, source in zip("AB", names, (a, b), strict=True)
        },
        "taps": [as_json(tap) for tap in taps],
        "largest": widest,
        "predictions": predictions,
        "predictions_left_out": opened.no_predictions_because or None,
        "advice": advice,
    }
    drawn = next(tap for tap in taps if tap.name == (settings.tap or widest))
    path = settings.out / "domain_gap.json"
    with output_folder(settings.out, COMMAND, inputs=_inputs(a, b, model)) as folder:
        picture = _draw(drawn, seen, names, folder)
        write_json(path, result)
    _print(console, opened, result, taps, names)
    said = f"{advice}\n\nnumbers        {path}\npicture        {picture}   (tap {drawn.name})"
    console.print(said, highlight=False, soft_wrap=not console.is_terminal)
    return result


COMMAND = "domain-gap"


def _inputs(a: ImageSource, b: ImageSource, model: ModelChoice) -> list[Path]:
    """Return the input paths, none of which may lie in the output folder."""
    given = [a.images, b.images, a.json_path, b.json_path, model.run]
    return [path for path in given if path is not None]


def _read(source: ImageSource, side: str, limit: int) -> list[ImageFile]:
    """Return at most `limit` images of one side, evenly spread: neighbours in a video show the same thing."""
    try:
        found = read_images(source.images, source.json_path).images
    except InputError as error:
        reason = str(error).removeprefix("data.target.images: ").partition("; unlabelled training")[0]
        raise InputError(f"domain-gap: side {side}: {reason}") from None
    if len(found) < MIN_IMAGES:
        raise InputError(
            f"domain-gap: side {side} has {len(found)} image(s) in '{source.json_path or source.images}'; expected "
            f"{MIN_IMAGES} at least, and a hundred for reliable numbers"
        )
    chosen = np.unique(np.linspace(0, len(found) - 1, min(limit, len(found))).round().astype(int))
    return [found[index] for index in chosen]


def _names(a: ImageSource, b: ImageSource) -> tuple[str, str]:
    """Return a name for each side: the last part of the paths in which they differ."""
    first, second = ((source.json_path or source.images).absolute().parts for source in (a, b))
    for one, other in zip(reversed(first), reversed(second), strict=False):
        if one != other:
            return f"A: {one}", f"B: {other}"
    return "A", "B"


def _check_tap(model: GapModel, tap: str | None) -> None:
    known = [known.name for known in model.adapter.taps]
    if not known:
        raise InputError("domain-gap: this model has no such tap; `tlvision show CONFIG` lists a model's taps")
    if tap is not None and tap not in (*known, COLOURS):
        raise InputError(
            f"domain-gap: --tap: this model has no tap '{tap}'.{nearest(tap, known)} It has {', '.join(known)}"
        )


def _look_at(
    console: Console, model: GapModel, files: Mapping[str, list[ImageFile]], names: tuple[str, str]
) -> tuple[tuple[ImageStatistics, ImageStatistics], frozenset[str]]:
    """Return the statistics of both sides and the names of uninitialised taps, with a progress bar."""
    sides = []
    fresh: frozenset[str] = frozenset()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        for (_, images), name in zip(files.items(), names, strict=True):
            bar = progress.add_task(f"looking at {name}", total=len(images))
            parts = []
            for count, part, found in extract(model, images):
                parts.append(part)
                fresh |= found
                progress.advance(bar, count)
            sides.append(join(parts))
    return (sides[0], sides[1]), fresh


def _measure(
    model: GapModel, seen: tuple[ImageStatistics, ImageStatistics], fresh: frozenset[str], seed: int
) -> list[TapGap]:
    one, other = seen
    gaps = [TapGap(COLOURS, 0, False, feature_gap(one.colours, other.colours, seed=seed))]
    for tap in model.adapter.taps:
        sides = one.features[tap.name], other.features[tap.name]
        for values in sides:
            if not np.isfinite(values).all():
                raise RunError(
                    f"domain-gap: tap {tap.name}: the model gives values that are not finite; check its weights"
                )
        gaps.append(TapGap(tap.name, tap.stride, tap.name in fresh, feature_gap(*sides, seed=seed)))
    return gaps


def _predictions(
    model: GapModel, seen: tuple[ImageStatistics, ImageStatistics], seed: int
) -> tuple[dict[str, Any] | None, Measured | None]:
    """Return the statistics of the predictions as json has them, and the shift of the class shares."""
    one, other = seen
    if one.classes is None or other.classes is None:
        return None, None
    shift = class_shift(one.classes, other.classes, seed=seed)
    shares = [_shares(side.classes) for side in (one, other) if side.classes is not None]
    statistics = {
        name: {
            "a": _mean(one.numbers[name]),
            "b": _mean(other.numbers[name]),
            "difference_in_deviations": mean_shift(one.numbers[name], other.numbers[name]),
        }
        for name in one.numbers
    }
    return {
        "class_shift": {"value": shift.value, "floor": shift.floor},
        "class_shares": {
            name: {"a": float(shares[0][index]), "b": float(shares[1][index])}
            for index, name in enumerate(model.classes.names)
        },
        "statistics": statistics,
    }, shift


def _shares(classes: Numbers) -> Numbers:
    total = classes.sum(axis=0)
    result: Numbers = total / max(float(total.sum()), 1e-12)
    return result


def _mean(values: Numbers) -> float | None:
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else None


def _draw(tap: TapGap, seen: tuple[ImageStatistics, ImageStatistics], names: tuple[str, str], out: Path) -> Path:
    vectors = [side.colours if tap.name == COLOURS else side.features[tap.name] for side in seen]
    plane = principal_components(*standardise(vectors[0], vectors[1]), 2)
    flat = [np.pad(side, ((0, 0), (0, 2 - side.shape[1]))) for side in plane]  # a tap may have one channel
    clouds = [
        PointGroup(name, points, colour, mark)
        for name, points, colour, mark in zip(names, flat, (PALETTE[4], PALETTE[0]), ("o", "D"), strict=True)
    ]
    gap = tap.gap.a_distance
    picture = scatter(
        clouds,
        title=f"tap {tap.name}, a point is an image: A-distance {gap.value:.2f} of 2 (floor {gap.floor:.2f})",
        x_label="first principal component of the pooled, standardised features",
        y_label="second principal component",
    )
    path = out / "domain_gap.png"
    write_image(path, picture)
    return path


def _print(
    console: Console, model: GapModel, result: Mapping[str, Any], taps: list[TapGap], names: tuple[str, str]
) -> None:
    counts = f"{names[0]} ({result['a']['images']} images), {names[1]} ({result['b']['images']} images)"
    console.print(f"{model.title}\n{counts}; long side {model.image_size} px", highlight=False, markup=False)
    size = taps[0].gap.size
    title = f"distances between {size} images and {size}; in brackets the floor: between halves of one side"
    console.print(title, style="italic", highlight=False, soft_wrap=True)
    numbers = ("A-distance, 0 to 2", "Fréchet", "MMD", "p")
    table = terminal.table("tap", "stride", *numbers, "", right=numbers)
    for tap in taps:
        gap = tap.gap
        notes = ["apart"] if tap.apart() else []
        notes += ["largest"] if tap.name == result["largest"] else []
        notes += ["fresh weights"] if tap.uninitialised else []
        cells = [
            f"{measured.value:.{digits}f} ({measured.floor:.{digits}f})"
            for measured, digits in ((gap.a_distance, 2), (gap.frechet, 2), (gap.mmd, 3))
        ]
        table.add_row(tap.name, str(tap.stride or "-"), *cells, f"{gap.p_value:.3f}", ", ".join(notes))
    console.print(table)
    if result["predictions"] is None:
        console.print(f"predictions are left out: {model.no_predictions_because}\n", highlight=False, markup=False)
        return
    shift = result["predictions"]["class_shift"]
    title = f"predictions: class shares differ by {shift['value']:.2f} in total variation ({shift['floor']:.2f})"
    console.print(title, style="italic", highlight=False, soft_wrap=True)
    console.print(_prediction_table(result["predictions"], names))


def _prediction_table(predictions: Mapping[str, Any], names: tuple[str, str]) -> Table:
    table = terminal.table("", *names, "difference", right=[*names, "difference"])
    for name, row in predictions["statistics"].items():
        apart = row["difference_in_deviations"]
        table.add_row(name, _said(row["a"]), _said(row["b"]), "-" if apart is None else f"{apart:+.2f} deviations")
    shares = predictions["class_shares"].items()
    shown = sorted(shares, key=lambda item: -abs(item[1]["b"] - item[1]["a"]))[:_MOST_CLASSES]
    for name, row in shown:
        table.add_row(f"share of {name}", f"{row['a']:.3f}", f"{row['b']:.3f}", f"{row['b'] - row['a']:+.3f}")
    if len(shares) > len(shown):
        table.add_row(f"{len(shares) - len(shown)} classes more in domain_gap.json")
    return table


def _said(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
