"""Decide whether the rotation in an image's EXIF header is applied: was the image labelled as stored, or as shown?

Size and json decide where they can: labels of a photograph that is stored 4000 x 3000 and shown 3000 x 4000 fit one of
the two. Where both sizes are equal (turned by 180 degrees, mirrored, square), the other images of the dataset decide:
who labelled those as stored labelled these as stored. `data.exif` states it for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tlvision.formats.image_headers import Header
from tlvision.types import counted, listing

Exif = Literal["auto", "apply", "ignore"]


@dataclass(frozen=True, slots=True)
class Orientations:
    """The decision on the EXIF orientation of each image.

    applied: for each image, whether its EXIF rotation is applied when it is decoded.
    notes:   one sentence each, with counts and names.
    """

    applied: dict[int, bool]
    notes: tuple[str, ...]


def decide(
    headers: Mapping[int, Header],
    said: Mapping[int, tuple[int | None, int | None]],
    names: Mapping[int, str],
    *,
    exif: Exif = "auto",
) -> Orientations:
    """Decide for every image of a dataset.

    headers: of each image id.
    said:    width and height that the labels were drawn on (from the json, or of the label map); None where unknown.
    names:   file name of each image, for messages.
    exif:    "apply" or "ignore" decides where the size does not; "auto" lets the other images decide.

    >>> turned, upside_down = Header(40, 30, 6), Header(40, 30, 3)
    >>> found = decide({1: turned, 2: upside_down}, {1: (40, 30), 2: (40, 30)}, {1: "a.jpg", 2: "b.jpg"})
    >>> found.applied
    {1: False, 2: False}
    """
    applied: dict[int, bool] = {}
    as_stored: list[int] = []
    as_shown: list[int] = []
    open_questions: list[int] = []
    for image_id, header in headers.items():
        stored, shown = (header.width, header.height), header.rotated_size
        applied[image_id] = False
        if header.orientation == 1:
            continue
        if stored != shown and None not in said[image_id]:
            applied[image_id] = said[image_id] == shown
            (as_shown if applied[image_id] else as_stored).append(image_id)
        else:
            open_questions.append(image_id)
    answer = _answer(exif, bool(as_stored), bool(as_shown))
    applied |= dict.fromkeys(open_questions, answer)
    return Orientations(
        applied, tuple(_notes(names, as_stored, as_shown, open_questions, answer=answer if exif == "auto" else None))
    )


def _answer(exif: Exif, some_as_stored: bool, some_as_shown: bool) -> bool:
    if exif != "auto":
        return exif == "apply"
    return some_as_shown or not some_as_stored


def _notes(
    names: Mapping[int, str],
    as_stored: Sequence[int],
    as_shown: Sequence[int],
    open_questions: Sequence[int],
    *,
    answer: bool | None,
) -> list[str]:
    notes = []
    if as_stored:
        listed = listing([names[image_id] for image_id in as_stored])
        notes.append(f"the EXIF rotation is not applied where the labels have the size as stored: {listed}")
    if open_questions and answer is not None:
        listed = listing([names[image_id] for image_id in open_questions])
        done = "applied" if answer else "not applied"
        if (as_stored and not as_shown) or (as_shown and not as_stored):
            reason = "as in the other images of the dataset"
        else:
            reason = "by default. Set data.exif to apply or ignore if the labels were drawn on the picture as stored"
        notes.append(
            f"{counted(len(open_questions), 'image')} with an EXIF rotation that the size cannot confirm; it is "
            f"{done}, {reason}: {listed}"
        )
    return notes
