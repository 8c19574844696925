"""Small parts of the shared data sets."""

from __future__ import annotations

import json
from pathlib import Path


def first_images(source: Path, count: int, target: Path) -> Path:
    """Write the first `count` images of a COCO json, with their annotations, to `target` and return it."""
    content = json.loads(source.read_text(encoding="utf-8"))
    content["images"] = content["images"][:count]
    kept = {image["id"] for image in content["images"]}
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
    target.write_text(json.dumps(content), encoding="utf-8")
    return target
