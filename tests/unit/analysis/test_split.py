"""Parts of a dataset have their share of every class, whole groups, and no near-copies of each other."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageFilter

from tlvision.analysis.near_duplicates import NEAR, clusters, image_hashes, near_pairs
from tlvision.analysis.split import split, without
from tlvision.cli.main import main
from tlvision.formats.coco import read_coco
from tlvision.types import InputError


def picture(number: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A picture of coarse random colours, which differs from all others."""
    coarse = np.random.default_rng(number).integers(20, 190, (9, 12, 3)).astype(np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    return folder


def test_copies_are_found_and_other_pictures_are_not(images: Path) -> None:
    paths = []
    for number in range(40):
        picture(number).save(images / f"{number}.png")
        paths.append(images / f"{number}.png")
    original = picture(0)
    copies = {
        "small.jpg": original.resize((120, 90)),
        "poor.jpg": original,
        "bright.png": ImageEnhance.Brightness(original).enhance(1.2),
        "soft.png": original.filter(ImageFilter.GaussianBlur(2)),
        "grey.png": original.convert("L"),
    }
    for name, copy in copies.items():
        copy.save(images / name, **({"quality": 40} if name.endswith("jpg") else {}))
        paths.append(images / name)
    hashes = image_hashes(paths)
    pairs = near_pairs(hashes)
    alike = [0, *range(40, 45)]
    assert {tuple(pair) for pair in pairs.tolist()} == set(combinations(alike, 2))
    roots = clusters(len(paths), pairs)
    assert [number for number, root in enumerate(roots) if root == 0] == alike
    assert len(set(roots)) == 40


def test_the_fast_search_finds_what_a_slow_loop_does() -> None:
    generator = np.random.default_rng(0)
    hashes = generator.integers(0, 256, (700, 32)).astype(np.uint8)  # more than one block
    hashes[600] = hashes[3]
    hashes[650] = hashes[3]
    hashes[650, :4] ^= 0xFF
    hashes[651] = hashes[650]
    hashes[651, 4] ^= 1
    slow = [
        (one, other)
        for one in range(700)
        for other in range(one + 1, 700)
        if np.unpackbits(hashes[one] ^ hashes[other]).sum() <= NEAR
    ]
    assert near_pairs(hashes).tolist() == [list(pair) for pair in slow]
    assert slow == [(3, 600), (3, 650), (600, 650), (650, 651)]


def dataset(images: Path, count: int = 40) -> dict[str, Any]:
    """Images of ten patients; class b in every fourth one; images 0 and 1 show the same."""
    rows, boxes = [], []
    for number in range(count):
        picture(max(number, 1)).save(images / f"p{number % 10}_{number}.png")
        name = f"p{number % 10}_{number}.png"
        rows.append({"id": 100 + number, "file_name": name, "width": 160, "height": 120, "patient": number % 10})
        for category in [7] + ([9] if number % 4 == 0 else []):
            box = {"bbox": [5, 5, 50, 50], "area": 2500, "iscrowd": 0}
            boxes.append({"id": len(boxes) + 1, "image_id": 100 + number, "category_id": category, **box})
    categories = [{"id": 7, "name": "a"}, {"id": 9, "name": "b"}]
    return {"info": {"by": "us"}, "images": rows, "annotations": boxes, "categories": categories}


def files(part: Any) -> set[str]:
    return {row["file_name"] for row in part["images"]}


def test_each_part_has_its_share_of_every_class(images: Path) -> None:
    content = dataset(images)
    for seed in range(3):
        found = split(content, images, {"train": 0.7, "val": 0.2, "test": 0.1}, seed=seed)
        parts = [files(part) for part in found.parts.values()]
        assert [len(part) for part in parts] == [28, 8, 4]
        assert set.union(*parts) == files(content)
        assert found.table["b"] == {"train": 7, "val": 2, "test": 1}
        together = [{"p0_0.png", "p1_1.png"} & part for part in parts]
        assert sorted(map(len, together)) == [0, 0, 2], "near-copies are on one side"
        assert found.duplicates == 2
        train = found.parts["train"]
        assert train["info"] == {"by": "us"}
        assert {row["image_id"] for row in train["annotations"]} <= {row["id"] for row in train["images"]}
    divided = [split(content, images, {"a": 0.5, "b": 0.5}, seed=s, near_duplicates=False).parts for s in range(6)]
    assert any(len({"p0_0.png", "p1_1.png"} & files(parts["a"])) == 1 for parts in divided)
    again = split(content, images, {"train": 0.7, "val": 0.2, "test": 0.1}, seed=2)
    assert again == found


@pytest.mark.parametrize("group_by", ["patient", r"^(p\d)_"])
def test_groups_are_never_divided(group_by: str, images: Path) -> None:
    found = split(dataset(images), images, {"train": 0.7, "val": 0.3}, group_by=group_by)
    one, other = ({name[:2] for name in files(part)} for part in found.parts.values())
    assert not one & other
    assert len(one | other) == 10
    assert ("p0" in one) == ("p1" in one), "two groups that share a near-copy are one"


def test_folds_from_the_command_line(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "labels.json"
    source.write_text(json.dumps(dataset(images)))
    command = ["split", str(source), str(tmp_path / "out"), "--images", str(images), "--folds", "4"]
    assert main(command) == 0
    assert "2 images with near-duplicates, which are in one part" in capsys.readouterr().out
    held = []
    for number in range(4):
        train, val = (tmp_path / "out" / f"fold{number}_{side}.json" for side in ("train", "val"))
        one, other = (files(json.loads(path.read_text())) for path in (train, val))
        assert not one & other
        assert len(one | other) == 40
        held.append(other)
        assert len(read_coco(val, images).samples) == 10
    assert len(set.union(*held)) == 40
    content = dataset(images)
    part = split(content, images, {"a": 0.5, "b": 0.5}).parts["a"]
    assert files(without(content, part)) == files(content) - files(part)


def test_a_class_that_a_part_lacks_is_said(images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = dataset(images, 12)
    content["annotations"] = [
        row for row in content["annotations"] if row["category_id"] == 7 or row["image_id"] == 104
    ]
    (tmp_path / "labels.json").write_text(json.dumps(content))
    command = ["split", str(tmp_path / "labels.json"), str(tmp_path / "out"), "--images", str(images)]
    assert main(command) == 0
    assert "note: classes without an image in a part: b in " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shares", "train=0.8"], "two or more different parts, together 1"),
        (["--shares", "train=0.8", "val=0.3"], "together 1"),
        (["--shares", "train=0.5", "train=0.5"], "two or more different parts"),
        (["--shares", "train=much", "val=0.3"], "expected NAME=SHARE"),
        (["--shares", "../up=0.5", "val=0.5"], "a plain name"),
        (["--folds", "1"], "--folds must be from 2"),
        (["--folds", "3", "--shares", "a=0.5", "b=0.5"], "either --shares or --folds"),
        (["--group-by", "hospital"], "has no 'hospital'"),
        (["--group-by", "(("], "is no regular expression"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(
    arguments: list[str], message: str, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "labels.json").write_text(json.dumps(dataset(images, 12)))
    command = ["split", str(tmp_path / "labels.json"), str(tmp_path / "out"), "--images", str(images), *arguments]
    assert main(command) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()


def test_a_broken_image_is_named(images: Path) -> None:
    content = dataset(images, 4)
    (images / "p2_2.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"p2_2\.png' cannot be read as an image"):
        split(content, images, {"a": 0.5, "b": 0.5})


@pytest.mark.shared
def test_on_real_images_pairs_are_those_that_people_see(shared: Path, tmp_path: Path) -> None:
    """BCCD has one cell picture at two focuses, KITTI two pairs of neighbouring frames; the others have none."""
    expected = {"bccd": 1, "driving_kitti": 2, "coco128": 0, "deeppcb": 0}
    for name, count in expected.items():
        hashes = image_hashes(sorted((shared / "data" / name / "images").iterdir()))
        assert len(near_pairs(hashes)) == count, name
    paths = sorted((shared / "data" / "coco128" / "images").iterdir())
    assert len(near_pairs(image_hashes(paths), 89)) == 0
    for path in paths[:60]:
        original = Image.open(path).convert("RGB")
        half = original.resize((original.width // 2, original.height // 2))
        bright = ImageEnhance.Brightness(original).enhance(1.3)
        for name, copy in {"a.jpg": half, "b.jpg": original, "c.png": bright}.items():
            copy.save(tmp_path / name, **({"quality": 20} if name == "b.jpg" else {}))
        hashes = image_hashes([path, *(tmp_path / name for name in ("a.jpg", "b.jpg", "c.png"))])
        assert near_pairs(hashes, 28).tolist()[:3] == [[0, 1], [0, 2], [0, 3]]
