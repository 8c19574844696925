"""The worst images of a run with truth and prediction, and examples that are evenly spread over the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tlvision.report.colours import class_colour
from tlvision.report.page import Section
from tlvision.report.run_files import RunFiles, number, pick
from tlvision.report.thumbnails import thumbnail

MAX_EXAMPLES = 8
MAX_BYTES = 48_000
"""Largest picture of a page; 24 pairs and 8 examples take 3.6 MB."""
_SIDE = 640
_NOTES = {
    "AP50_lost": "By the AP50 that the errors in each image cost. Named boxes are errors at the operating point.",
    "mean_class_iou": "By mean IoU over the classes that each image has.",
}


def worst_section(files: RunFiles) -> Section | None:
    """Return the worst images; None if the run has none."""
    measure = str(pick(files.data, "worst.measure"))
    rows = pick(files.data, "worst.images")
    images = [_image(files, row, measure) for row in rows] if isinstance(rows, list) else []
    images = [image for image in images if image["pictures"]]
    if not images:
        return None
    names = files.classes.get("names")
    names = names if isinstance(names, list) else []
    data = {
        "images": images,
        "classes": _present(images, "classes", names),
        "kinds": _present(images, "kinds", []),
        "legend": [(name, "rgb({}, {}, {})".format(*class_colour(place))) for place, name in enumerate(names)],
    }
    return Section("Worst images", "worst", data, _NOTES.get(measure, ""))


def _image(files: RunFiles, row: Any, measure: str) -> dict[str, Any]:
    errors = row["errors"]
    return {
        "name": str(row["image"]),
        "value": f"IoU {number(row['value']):.3f}"
        if measure == "mean_class_iou"
        else f"costs {number(row['value']):.4f} AP50",
        "classes": [str(name) for name in row["classes"]],
        "kinds": list(errors),
        "errors": [f"{count} {kind}" for kind, count in errors.items()],
        "pictures": _embedded(
            files, [("ground truth" if key == "truth" else key, str(row[key])) for key in ("truth", "prediction")]
        ),
    }


def _present(images: list[dict[str, Any]], key: str, order: list[Any]) -> list[str]:
    found = {name for image in images for name in image[key]}
    return [name for name in order if name in found] + sorted(found - {*order})


def examples_section(files: RunFiles) -> Section | None:
    """Return some of the pictures in pictures/."""
    paths = [path for path in files.pictures if path.stem != "sheet"]
    shown = _embedded(files, [(path.name, f"pictures/{path.name}") for path in paths[:MAX_EXAMPLES]])
    note = "Evenly spread over the validation images. Dashed lines and the left label map are the ground truth."
    data = {"images": shown, "more": max(0, len(paths) - MAX_EXAMPLES)}
    return Section("Examples", "pictures", data, note) if shown else None


def _embedded(files: RunFiles, pictures: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return captions and data URIs of pictures of the run; one that cannot be read is left out, with a note."""
    result = []
    for caption, name in pictures:
        path = Path(files.folder, name)
        try:
            result.append((caption, thumbnail(path, side=_SIDE, max_bytes=MAX_BYTES)))
        except (OSError, ValueError) as error:
            files.notes.append(f"{name} could not be read ({type(error).__name__}).")
    return result
