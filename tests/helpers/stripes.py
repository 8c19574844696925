"""Images of two stripes, and their label maps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tlvision.formats.label_maps import write_label_map


def paint_stripes(folder: Path, count: int, seed: int = 0) -> None:
    """Write images of which one half is dark and the other light, and label maps that say which."""
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    for number in range(count):
        labels = np.zeros((50, 70), np.uint8)
        labels[:, int(rng.integers(20, 50)) :] = 1
        labels[:3] = 255
        image = np.where(labels[..., None] == 1, 200, 60) + rng.integers(-20, 20, (50, 70, 3))
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"{number}.png")
        write_label_map(folder / "masks" / f"{number}.png", labels)


def striped_data(folder: Path, count: int) -> dict[str, Any]:
    """Paint into `folder`, and return the section `data` of a config that trains and measures on the same images."""
    paint_stripes(folder, count)
    (folder / "classes.txt").write_text("dark\nlight\n", encoding="utf-8")
    part = {"images": str(folder / "images"), "masks": str(folder / "masks")}
    return {"classes": str(folder / "classes.txt"), "train": dict(part), "val": dict(part)}
