"""What the comparisons of predictions with upstream's share: pictures, our model as users have it, the comparison."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core_resize import resize_as_core
from tiny import QUIET

Detections = tuple[Any, Any, Any]
"""Boxes (K, 4) in pixels of the image, scores (K,), labels (K,)."""
EXIF_ORIENTATION, TURN_RIGHT = 0x0112, 6
WHOLE_FILES = 12


@dataclass
class Comparison:
    """Objects of two sides, paired in both directions.

    compared: how many objects of either side were looked for on the other. box: largest difference of a coordinate in
    pixels, score: of a score, among pairs. missing: objects without a partner, as text.
    """

    compared: int = 0
    box: float = 0.0
    score: float = 0.0
    missing: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return (
            f"{self.compared} objects, {len(self.missing)} without a partner, boxes within {self.box:.2g} px, scores "
            f"within {self.score:.2g}"
        )

    def add(
        self, name: str, ours: Detections, theirs: Detections, *, floor: float, pixels: float, score: float
    ) -> None:
        """Look for each object with a score of `floor` + `score` or more on the other side, within the tolerances."""
        for side, here, there in (("ours", ours, theirs), ("theirs", theirs, ours)):
            kept = here[1] >= floor + score
            self.find_all(f"{name}: {side}", (here[0][kept], here[1][kept], here[2][kept]), there, pixels, score)

    def find_all(self, name: str, wanted: Detections, there: Detections, pixels: float, score: float) -> None:
        """Look for each of `wanted` in `there`, within the tolerances."""
        for each in zip(*wanted, strict=True):
            self._find(name, each, there, pixels, score)

    def _find(self, name: str, wanted: tuple[Any, Any, Any], there: Detections, pixels: float, score: float) -> None:
        self.compared += 1
        box, value, label = wanted
        apart, gap = np.abs(there[0] - box).max(axis=1), np.abs(there[1] - value)
        fits = (apart <= pixels) & (gap <= score) & (there[2] == label)
        if not fits.any():
            near = np.where(there[2] == label, apart, np.inf).argmin() if len(apart) else None
            nearest = "none" if near is None else f"{apart[near]:.3f} px, score {gap[near]:.4f} away"
            self.missing.append(f"{name} class {label} score {value:.3f}; nearest {nearest}")
            return
        best = np.flatnonzero(fits)[apart[fits].argmin()]
        self.box, self.score = max(self.box, float(apart[best])), max(self.score, float(gap[best]))


@pytest.fixture
def comparison() -> Callable[[], Comparison]:
    """Return the class `Comparison`."""
    return Comparison


@pytest.fixture
def same_resize() -> Callable[..., Any]:
    """Return `resize_as_core`."""
    return resize_as_core


@pytest.fixture
def pictures(tmp_path: Path) -> Callable[[Sequence[Path]], list[Path]]:
    """Return `make(files, shrink=1)`: 20 files made of real ones, of many sizes and kinds; at least 12 are needed.

    Six are copies, six are crops of different sizes. The others are an odd crop, a low one, one that EXIF turns, a grey
    one, one with alpha, a small one, and two that are larger than their sources (four pictures side by side). With
    `shrink` the sources are made so many times smaller first, and none is a copy.
    """

    def make(files: Sequence[Path], shrink: int = 1) -> list[Path]:
        folder = tmp_path / "pictures"
        folder.mkdir()
        assert len(files) >= WHOLE_FILES
        sources = [Image.open(file).convert("RGB").reduce(shrink) for file in files[:WHOLE_FILES]]
        made = []
        for number, (file, source) in enumerate(zip(files, sources, strict=False)):
            cut = number if number % 2 else 0
            changed = cut > 0 or shrink > 1
            made.append(folder / f"{number:02d}{'.png' if changed else file.suffix}")
            if changed:
                source.crop((0, 0, source.width - 7 * cut, source.height - 5 * cut)).save(made[-1])
            else:
                made[-1].write_bytes(file.read_bytes())
        return made + _variants(sources, folder)

    return make


@pytest.fixture
def brief_run(tmp_path: Path) -> Callable[..., Path]:
    """Return `train(model, data, **train)`: a run folder; `data` as in a config, for an image size of 320."""

    def train(model: dict[str, Any], data: dict[str, Any], **settings: Any) -> Path:
        import tlvision

        still = {"mosaic": 0, "scale": 0, "translate": 0, "hue": 0, "saturation": 0, "value": 0}
        config = {
            "model": model,
            "data": {"image_size": 320, "canvas": "fitted", "augment": still, "batch": {"labelled": 4}, **data},
            "train": {"device": "cpu", "clip": 35, "warmup": 0.1, "seed": 0, **settings},
            "evaluate": {"batch": 4},
            "hooks": [QUIET],
            "run": {"out": str(tmp_path / "run")},
        }
        return Path(tlvision.train(config).run)

    return train


@pytest.fixture
def few_cells(shared: Path, tmp_path: Path) -> dict[str, Any]:
    """Return `data` of a config: 24 images of blood cells to train on and 2 to choose by."""
    folder = shared / "data" / "bccd"
    data: dict[str, Any] = {}
    for split, count in (("train", 24), ("val", 2)):
        content = json.loads((folder / f"{split}.json").read_text(encoding="utf-8"))
        content["images"] = content["images"][:count]
        kept = {image["id"] for image in content["images"]}
        content["annotations"] = [row for row in content["annotations"] if row["image_id"] in kept]
        path = tmp_path / f"{split}.json"
        path.write_text(json.dumps(content), encoding="utf-8")
        data[split] = {"json": str(path), "images": str(folder / "images")}
    return data


@pytest.fixture
def cells(shared: Path, pictures: Any) -> list[Path]:
    """Twenty pictures of blood cells, 320 x 240 and others, of which none was trained on."""
    folder = shared / "data" / "bccd"
    images = json.loads((folder / "val.json").read_text(encoding="utf-8"))["images"]
    made: list[Path] = pictures([folder / "images" / image["file_name"] for image in images[2 : 2 + WHOLE_FILES]], 2)
    return made


def _variants(sources: Sequence[Image.Image], folder: Path) -> list[Path]:
    width, height = sources[0].size
    turned = Image.Exif()
    turned[EXIF_ORIENTATION] = TURN_RIGHT
    alpha = sources[4].convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(alpha.size))
    four = Image.new("RGB", (2 * width, 2 * height))
    for number, source in enumerate(sources[:4]):
        four.paste(source.resize((width, height)), (width * (number % 2), height * (number // 2)))
    low = sources[1].height // 3
    variants: dict[str, tuple[Image.Image, dict[str, Any]]] = {
        "odd.jpg": (sources[0].crop((3, 5, width - 34, height - 26)), {"quality": 95}),
        "low.png": (sources[1].crop((0, low, sources[1].width, low + sources[1].height // 2)), {}),
        "exif.jpg": (sources[2].transpose(Image.Transpose.ROTATE_90), {"quality": 95, "exif": turned.tobytes()}),
        "grey.jpg": (sources[3].convert("L"), {"quality": 95}),
        "alpha.png": (alpha, {}),
        "small.png": (sources[5].crop((40, 30, 40 + sources[5].width // 2, 30 + sources[5].height // 2 - 7)), {}),
        "large.png": (four.crop((0, 100, 2 * width - 77, 2 * height)), {}),
        "huge.jpg": (four, {"quality": 95}),
    }
    for name, (image, options) in variants.items():
        image.save(folder / name, **options)
    return [folder / name for name in variants]


@pytest.fixture
def as_loaded() -> Callable[..., Any]:
    """Return `make(built, plugin, arch, classes, image_size)`: the result of `tlvision.load` for a run of that model.

    built: adapter and weight report, as `Plugin.build` returns them.
    """

    def make(built: tuple[Any, Any], plugin: str, arch: str, classes: Any, image_size: int) -> Any:
        from tlvision.config.schema import Config
        from tlvision.engine.model import LoadedModel
        from tlvision.tasks import get_task
        from tlvision.training.fabric import make_fabric
        from tlvision.types import ClassThresholds

        unused = {"json": "unused.json", "images": "unused"}
        config = Config.model_validate(
            {
                "model": {"plugin": plugin, "arch": arch, "weights": "none"},
                "data": {"train": unused, "val": unused, "image_size": image_size},
                "train": {"epochs": 1, "device": "cpu"},
                "run": {"out": "unused"},
            }
        )
        adapter, report = built
        adapter.module.eval()
        return LoadedModel(
            run=Path("unused"), config=config, task=get_task("detect"), classes=classes,
            adapter=adapter, fabric=make_fabric(config.train), report=report, thresholds=ClassThresholds(0.0),
        )  # fmt: skip

    return make


@pytest.fixture
def few_streets(shared: Path, tmp_path: Path) -> dict[str, Any]:
    """Return `data` of a config: 16 street scenes with label maps to train on and 2 to choose by."""
    folder = shared / "data" / "camvid_day"
    data: dict[str, Any] = {"classes": str(folder / "classes.txt")}
    for split, count in (("train", 16), ("val", 2)):
        data[split] = {kind: str(tmp_path / split / kind) for kind in ("images", "masks")}
        for path in data[split].values():
            Path(path).mkdir(parents=True)
        for image in sorted((folder / "images" / split).iterdir())[:count]:
            shutil.copy(image, data[split]["images"])
            shutil.copy(folder / "masks" / split / f"{image.stem}.png", data[split]["masks"])
    return data


@pytest.fixture
def streets(shared: Path, pictures: Any) -> list[Path]:
    """Twenty pictures of streets, 480 x 360 and others, of which none was trained on."""
    made: list[Path] = pictures(sorted((shared / "data" / "camvid_day" / "images" / "val").iterdir())[2:])
    return made


@pytest.fixture
def pixels_that_differ() -> Callable[..., tuple[int, int]]:
    """Return `count(files, ours, theirs)`: pixels of all label maps, and those with another class.

    Maps of a single class throughout would be a comparison of nothing, and fail.
    """

    def count(files: Sequence[Path], ours: Sequence[Any], theirs: Sequence[Any]) -> tuple[int, int]:
        total = different = 0
        classes: set[int] = set()
        for file, mine, other in zip(files, ours, theirs, strict=True):
            label_map = np.asarray(other)
            assert mine.semantic.shape == label_map.shape, file.name
            classes |= set(np.unique(label_map).tolist())
            total, different = total + label_map.size, different + int((mine.semantic != label_map).sum())
        print(f"{different} of {total} pixels differ: {100 * different / total:.4f} %; {len(classes)} classes")
        assert len(classes) > 1
        return total, different

    return count
