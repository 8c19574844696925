"""The doctor finds what was done to a dataset, says where, and finds nothing in a sound one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.analysis.doctor import Finding, examine, write_doctor_page
from tlvision.cli.main import main
from tlvision.config.load import dump_config, load_config

Content = dict[str, Any]


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    """A config on 40 training and 12 validation images, which differ, with two classes."""
    data: dict[str, Any] = {}
    for name, count in (("train", 40), ("val", 12)):
        folder = tmp_path / name
        folder.mkdir()
        rows, boxes = [], []
        for number in range(count):
            generator = np.random.default_rng([number, count])
            coarse = generator.integers(20, 190, (9, 12, 3)).astype(np.uint8)
            file = f"{number}.png"
            Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(folder / file)
            rows.append({"id": number + 1, "file_name": file, "width": 160, "height": 120})
            for category in (1, 2):
                side = float(generator.uniform(20, 40))
                box = [5.0 + 60 * (category - 1), 5.0, side, side + 3]
                boxes.append({"id": len(boxes) + 1, "image_id": number + 1, "category_id": category, "bbox": box})
        for row in boxes:
            row |= {"area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
        categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
        content = {"images": rows, "annotations": boxes, "categories": categories}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        data[name] = {"json": str(tmp_path / f"{name}.json"), "images": str(folder)}
    model = {"plugin": "toy", "arch": "tiny_detector", "weights": "none"}
    return {
        "model": model,
        "data": data,
        "train": {"epochs": 1, "device": "cpu"},
        "run": {"out": str(tmp_path / "run")},
    }


def found(values: dict[str, Any]) -> list[Finding]:
    return examine(load_config(values))[1]


def test_a_sound_dataset_has_no_findings(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert found(values) == []
    config = tmp_path / "config.yaml"
    config.write_text(dump_config(load_config(values)))
    assert main(["doctor", str(config)]) == 0
    assert "nothing was found" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()


def same_object(content: Content, folder: Path) -> None:
    row = content["annotations"][0]
    content["annotations"].append({**row, "id": 900, "category_id": 2})
    content["annotations"].append({**row, "id": 901, "bbox": [row["bbox"][0] + 0.1, *row["bbox"][1:]]})


def odd_boxes(content: Content, folder: Path) -> None:
    rows = content["annotations"]
    rows[0]["bbox"] = [0, 0, 160, 120]
    rows[2]["bbox"] = [10, 10, 100, 2]
    rows[4]["bbox"] = [10, 10, 3, 3]


def rare_class(content: Content, folder: Path) -> None:
    rows = content["annotations"]
    content["annotations"] = [row for row in rows if row["category_id"] == 1 or row["image_id"] < 4]


def truncated(content: Content, folder: Path) -> None:
    path = folder / "7.png"
    path.write_bytes(path.read_bytes()[:-4000])


def copies(content: Content, folder: Path) -> None:
    with Image.open(folder / "3.png") as image:
        image.resize((140, 105)).resize((160, 120)).save(folder / "5.png")
        image.resize((150, 112)).resize((160, 120)).save(folder.parent / "val" / "2.png")


def dark(content: Content, folder: Path) -> None:
    for path in folder.iterdir():
        with Image.open(path) as image:
            image.point(lambda value: value // 4).save(path)


DONE: dict[str, tuple[Callable[[Content, Path], None], list[tuple[str, str]]]] = {
    "same_object": (
        same_object,
        [
            (
                "warning",
                "2 pairs of boxes of different classes on one object (IoU of 0.9 or more): 0.png (annotation 1 and",
            ),
            ("warning", "1 object marked twice (IoU of 0.95 or more): 0.png (annotation 1 and 901)"),
        ],
    ),
    "odd_boxes": (
        odd_boxes,
        [
            ("note", "1 box more than 20 times as long as wide: 1.png (annotation 3)"),
            ("note", "1 box as large as the image: 0.png (annotation 1)"),
            ("note", "2 boxes of a size far from all others of the class: 0.png (annotation 1), 2.png (annotation 5)"),
        ],
    ),
    "rare_class": (rare_class, [("warning", "1 class with fewer than 10 training images: dog 3")]),
    "truncated": (truncated, [("error", "1 image cannot be decoded (")]),
    "copies": (
        copies,
        [
            ("warning", "of training and validation images that show the same: 3.png = val/2.png"),
            ("note", "1 pair of images that show the same: 3.png = 5.png"),
        ],
    ),
    "dark": (dark, [("warning", "data.val differs from data.train in brightness: mean")]),
}


@pytest.mark.parametrize("name", DONE)
def test_what_was_done_is_found(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    change, expected = DONE[name]
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    change(content, tmp_path / "train")
    path.write_text(json.dumps(content))
    findings = found(values)
    for severity, sentence in expected:
        assert any(each.severity == severity and sentence in each.shown() for each in findings), sentence
    assert len(findings) == len(expected), [each.shown() for each in findings]


def test_what_training_refuses_is_an_error_in_the_same_words(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    for row in content["annotations"]:
        row["iscrowd"] = 1
    path.write_text(json.dumps(content))
    (tmp_path / "val" / "3.png").unlink()
    config, output = tmp_path / "config.yaml", tmp_path / "found"
    config.write_text(dump_config(load_config(values)))
    assert main(["train", str(config)]) == 2
    refused = capsys.readouterr().err.removeprefix("error: ").strip()
    assert main(["doctor", str(config), "--output", str(output)]) == 1
    printed = capsys.readouterr()
    assert "2 errors, which training refuses" in printed.err
    findings = json.loads((output / "findings.json").read_text())["findings"]
    assert [each["severity"] for each in findings] == ["error", "error"], "one broken part hides no other"
    assert refused.split()[:12] == findings[0]["sentence"].removeprefix("data.train: ").split()[:12]
    assert "3.png" in findings[1]["sentence"]


def test_the_page_shows_each_case(values: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    content = json.loads(path.read_text())
    for change in (same_object, copies, odd_boxes):
        change(content, tmp_path / "train")
    path.write_text(json.dumps(content))
    parts, findings = examine(load_config(values))
    page = write_doctor_page(tmp_path / "doctor.html", parts, findings).read_text(encoding="utf-8")
    assert page.count("<img") == sum(len(each.where) for each in findings) >= 8
    assert "train/3.png, val/2.png" in page
    assert "warning: label conflicts" in page
    rest = page.partition("<figure")[2]
    assert "http" not in rest.replace("http://www.w3.org", ""), "it needs no network"


def test_a_file_that_the_oracle_shares_is_no_duplicate(values: dict[str, Any]) -> None:
    values["data"]["oracle"] = values["data"]["train"]
    values["data"]["source_val"] = values["data"]["val"]
    values["data"]["target"] = {"images": values["data"]["val"]["images"]}
    values["data"]["batch"] = {"labelled": 4, "unlabelled": 4}
    assert [each for each in found(values) if each.check == "near_duplicates"] == []


@pytest.mark.shared
def test_on_real_data_it_finds_what_people_see(shared: Path) -> None:
    """KITTI has a frame in validation next to one in training; CARLA's 240 images have 70 such pairs."""
    pairs = {}
    for name in ("driving_kitti", "driving_carla", "deeppcb"):
        folder = shared / "data" / name
        data = {
            part: {"json": str(folder / f"{part}.json"), "images": str(folder / "images")} for part in ("train", "val")
        }
        config = {"model": {"plugin": "toy", "arch": "tiny_detector", "weights": "none"}, "data": data}
        findings = found({**config, "train": {"epochs": 1}, "run": {"out": "run"}})
        assert not [each for each in findings if each.severity == "error"]
        alike = [each for each in findings if each.check == "near_duplicates"]
        pairs[name] = {each.severity: len(each.where) for each in alike}
    assert pairs == {"driving_kitti": {"warning": 1, "note": 1}, "driving_carla": {"note": 70}, "deeppcb": {}}
