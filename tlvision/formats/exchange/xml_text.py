"""Read xml files of label tools: no entities, no external files."""

from __future__ import annotations

import math
from pathlib import Path
from xml.etree import ElementTree

from tlvision.files.inputs import read_text
from tlvision.formats.coco.rules import LIMIT
from tlvision.types import InputError
from tlvision.types.shown import clip

_MOST_BYTES = 512 << 20


def parse_xml(path: Path, root: str) -> ElementTree.Element:
    """Return the root element of a file.

    Raises InputError if it is no xml, has another root, or declares entities, which can expand without end.
    """
    text = read_text(path, "an xml file", max_bytes=_MOST_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise InputError(f"{path.name}: declares a document type, which label tools do not write; remove it")
    try:
        found = ElementTree.fromstring(text.encode())
    except ElementTree.ParseError as error:
        raise InputError(f"{path.name}: not xml ({error})") from None
    if found.tag != root:
        raise InputError(f"{path.name}: expected <{root}>, got <{clip(found.tag)}>")
    return found


def text_of(element: ElementTree.Element, key: str) -> str:
    """Return the text of a child, "" if there is none."""
    return (element.findtext(key) or "").strip()


def number(element: ElementTree.Element, key: str, where: str) -> float:
    """Return the number of a child or an attribute; InputError if it is missing or no finite number."""
    text = element.get(key) or text_of(element, key)
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not abs(value) < LIMIT:  # nan as well
        raise InputError(f"{where}: {key}: expected a number, got '{clip(text)}'")
    return value
