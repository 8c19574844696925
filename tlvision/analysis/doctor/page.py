"""The page of the doctor: each finding with pictures of its first cases, and all of its places."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from tlvision.analysis.doctor.findings import SEVERITIES, Finding, Part
from tlvision.data.images import read_image
from tlvision.report.page import Block, DataTable, Page, section, write_page
from tlvision.report.thumbnails import data_uri
from tlvision.types import InputError, Json, Sample, counted

PICTURES = 8
ROWS = 500
SIDE = 320
_MAX_BYTES = 30_000
_COLUMNS = ("file", "part", "annotation", "other", "label", "predicted", "score")
_GREY = (150, 150, 150)
_COLOURS = ((213, 94, 0), (0, 114, 178))


def write_doctor_page(path: Path, parts: Sequence[Part], findings: Sequence[Finding]) -> Path:
    """Write the page and return its path; of each finding the first pictures and places are shown."""
    known = {part.name: part for part in parts}
    counts = Counter(finding.severity for finding in findings)
    answer = ", ".join(counted(counts[severity], severity) for severity in SEVERITIES if counts[severity])
    titles = Counter[str]()
    sections = []
    for finding in findings:
        titles[finding.check] += 1
        number = f" {titles[finding.check]}" if titles[finding.check] > 1 else ""
        title = f"{finding.severity}: {finding.check.replace('_', ' ')}{number}"
        sections.append(section(title, _blocks(finding, known), "") or section(title, [{"text": finding.sentence}]))
    page = Page(
        title="Dataset",
        answer=f"{answer}." if answer else "Nothing was found.",
        facts=[(f"data.{part.name}", f"{len(part.data.samples)} images of {part.data.path}") for part in parts],
        sections=sections,
    )
    return write_page(path, page)


def _blocks(finding: Finding, parts: Mapping[str, Part]) -> list[Block]:
    pictures = []
    for place in finding.where[:PICTURES]:
        picture = _picture(place, parts)
        if picture is not None:
            pictures.append((_caption(place), data_uri(picture, _MAX_BYTES)))
    used = {key for place in finding.where for key in place}
    columns = tuple(key for key in _COLUMNS if key in used)
    rows = [tuple(place.get(key) for key in columns) for place in finding.where[:ROWS]]
    blocks: list[Block] = [{"text": finding.sentence, "pictures": pictures}]
    if rows:
        more = f" of {len(finding.where)}; all are in the JSON" if len(finding.where) > ROWS else ""
        table = DataTable(columns, rows, text=tuple(key for key in columns if key != "score"))
        blocks.append({"details": f"{counted(len(rows), 'case')}{more}", "table": table})
    return blocks


def _caption(place: Mapping[str, Any]) -> str:
    words = [f"{place['part']}/{place['file']}"]
    if "annotation" in place:
        words.append(f"annotation {place['annotation']}")
    if "other" in place:
        words.append(str(place["other"]))
    words += [f"{key}: {place[key]}" for key in ("label", "predicted") if key in place]
    if "score" in place:
        words.append(f"score {place['score']:.2f}")
    return ", ".join(words)


def _picture(place: Mapping[str, Any], parts: Mapping[str, Part]) -> Image.Image | None:
    """Return an image with the boxes in question, or two images that show the same; None if it cannot be decoded."""
    part = parts[place["part"]]
    first = _image(part, place["file"])
    if first is None or "annotation" in place or "other" not in place:
        return None if first is None else _with_boxes(first, part, place)
    name, _, file = str(place["other"]).partition("/")
    second = _image(parts[name], file) if name in parts and file else _image(part, str(place["other"]))
    if second is None:
        return None
    pair = [_small(image, SIDE // 2) for image in (first, second)]
    both = Image.new("RGB", (pair[0].width + pair[1].width + 4, max(each.height for each in pair)), "white")
    both.paste(pair[0], (0, 0))
    both.paste(pair[1], (pair[0].width + 4, 0))
    return both


def _with_boxes(image: Image.Image, part: Part, place: Mapping[str, Any]) -> Image.Image:
    """Return an image with the boxes in question, a predicted one last; of small ones the surroundings."""
    wanted = [place[key] for key in ("annotation", "other") if key in place]
    found: list[Json] = [row for each in part.rows.values() for row in each if row["id"] in wanted]
    rows = sorted(found, key=lambda row: wanted.index(row["id"]))
    if "box" in place:
        rows.append({"bbox": place["box"]})
    left, top = 0, 0
    if rows:
        left, top, right, bottom = _window(rows, image.size)
        image = image.crop((left, top, right, bottom))
    scale = SIDE / max(image.size)
    small = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    draw = ImageDraw.Draw(small)
    others = _others(part, place) if "box" in place else []
    drawn = [(row["bbox"], _GREY, 1) for row in others]
    drawn += [(row["bbox"], _COLOURS[number if "id" in row else -1], 2) for number, row in enumerate(rows)]
    for (x, y, width, height), colour, line in drawn:
        across, down = (x - left) * scale, (y - top) * scale
        corner = across + max(width * scale, 1), down + max(height * scale, 1)
        draw.rectangle((across, down, *corner), outline=colour, width=line)
    return small


def _others(part: Part, place: Mapping[str, Any]) -> list[Json]:
    """Return the annotations of an image whose boxes have an area: what is labelled near a prediction."""
    sample = _sample(part, place["file"])
    rows = [] if sample is None else part.rows.get(sample.image_id, [])
    return [row for row in rows if row["bbox"][2] > 0 and row["bbox"][3] > 0]


def _window(rows: Sequence[Json], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of what is shown: three times the boxes, at least a tenth of the image."""
    x0, y0 = min(row["bbox"][0] for row in rows), min(row["bbox"][1] for row in rows)
    x1 = max(row["bbox"][0] + row["bbox"][2] for row in rows)
    y1 = max(row["bbox"][1] + row["bbox"][3] for row in rows)
    half = max(1.5 * max(x1 - x0, y1 - y0), max(size) / 20)
    x, y = min(max((x0 + x1) / 2, 0), size[0]), min(max((y0 + y1) / 2, 0), size[1])
    left, top = max(0, int(x - half)), max(0, int(y - half))
    return left, top, max(left + 1, min(size[0], int(x + half))), max(top + 1, min(size[1], int(y + half)))


def _small(image: Image.Image, side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side, side))
    return small


def _sample(part: Part, file: str) -> Sample | None:
    path = part.data.images_dir / file
    return next((each for each in part.data.samples if each.path == path), None)


def _image(part: Part, file: str) -> Image.Image | None:
    sample = _sample(part, file)
    if sample is None:
        return None
    try:
        pixels, _ = read_image(sample.path, sample.width, sample.height, sample.exif, bits=sample.bits)
    except InputError:
        return None
    return Image.fromarray(pixels)
