"""What the doctor finds, and the parts of a dataset that it looks at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tlvision.types import Dataset, Json, Sample, listing

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Finding:
    """One problem.

    severity: `error`: training refuses it. `warning`: it makes results wrong or worse. `note`: worth a look.
    check:    name of the check. sentence: the problem.
    where:    one mapping for each case: "part", "file", and as far as they apply "annotation" (id), "other" (id of a
              second annotation, or the name of a second image), "label" and "predicted" (class names), "score" (0..1,
              the higher the more suspicious), "box" (x, y, width, height in pixels, of a prediction or a region).
    """

    severity: Severity
    check: str
    sentence: str
    where: tuple[dict[str, Any], ...] = ()

    def shown(self) -> str:
        """Return the sentence with the first places."""
        places = [str(place.get("file", place.get("part"))) + _annotation(place) for place in self.where]
        return f"{self.sentence}: {listing(places, _SHOWN)}" if places else self.sentence


def _annotation(place: dict[str, Any]) -> str:
    if "annotation" in place:
        also = f" and {place['other']}" if "other" in place else ""
        return f" (annotation {place['annotation']}{also})"
    return f" = {place['other']}" if "other" in place else ""


@dataclass(frozen=True, slots=True)
class Part:
    """One dataset of a config.

    name:       its key below `data`.
    rows:       annotations by image id, of a COCO json.
    categories: class name by category id, of a COCO json.
    """

    name: str
    data: Dataset
    rows: dict[int, list[Json]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)

    def place(self, sample: Sample, **more: Any) -> dict[str, Any]:
        """Return where a problem is."""
        return {"part": self.name, "file": file_of(self, sample), **more}


def file_of(part: Part, sample: Sample) -> str:
    """Return the name of an image below the folder of its part."""
    path, folder = sample.path, part.data.images_dir
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else str(path)


def worst(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings by severity."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))
