"""`doctor --fix` corrects what is safe in copies, logs it, and leaves the originals and everything else as they are."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from doctor_set import Content, change_json, findings_of, picture, two_parts
from tlvision.analysis.doctor import examine, fix_data
from tlvision.analysis.doctor.fix_rows import WHAT
from tlvision.cli.main import main
from tlvision.config.load import dump_config, load_config
from tlvision.engine.build import build_run


@pytest.fixture
def values(tmp_path: Path) -> dict[str, Any]:
    return two_parts(tmp_path)


def spoil(folder: Path) -> None:
    """Do everything that is corrected, once each, in the training images; images 1 to 6 are untouched."""

    def change(content: Content) -> None:
        rows = content["annotations"]
        of = {number: [row for row in rows if row["image_id"] == number] for number in range(1, 25)}
        rows.extend({**of[number][0], "id": 960 + number, "bbox": [80.0, 60.0, 25.0, 28.0]} for number in (8, 9))
        rows.append({**of[7][0], "id": 900})  # repeats another
        of[7][1]["bbox"] = [140.0, 100.0, 40.0, 30.0]  # leaves the image
        of[7][1]["area"] = 1200.0
        of[8][0]["bbox"] = [10.0, 10.0, 0.0, 5.0]
        of[8][1]["bbox"] = [300.0, 10.0, 5.0, 5.0]
        of[9][0]["bbox"] = [10.0, float("nan"), 5.0, 5.0]
        of[9][1]["category_id"] = 77
        of[10][0]["image_id"] = 4711
        content["images"].append({"id": 500, "file_name": "copy.png", "width": 160, "height": 120})
        rows.extend({**row, "id": 910 + row["id"], "image_id": 500} for row in of[1])
        content["images"].append({"id": 501, "file_name": "shared.png", "width": 160, "height": 120})
        rows.append({**of[1][0], "id": 990, "image_id": 501})

    change_json(folder / "train.json", change)
    shutil.copy(folder / "train" / "0.png", folder / "train" / "copy.png")
    shutil.copy(folder / "val" / "3.png", folder / "train" / "shared.png")
    path = folder / "train" / "11.png"
    path.write_bytes(path.read_bytes()[:-4000])
    (folder / "train" / "12.png").unlink()


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


EXPECTED = {
    "image_unreadable": 2,
    "image_repeated": 1,
    "image_in_validation": 1,
    "annotation_of_removed_image": 4 + 2 + 1,
    "annotation_without_image": 1,
    "annotation_without_class": 1,
    "annotation_without_box": 1,
    "box_empty": 1,
    "box_outside": 1,
    "box_clipped": 1,
    "annotation_repeated": 1,
}


def test_everything_that_is_safe_is_corrected(
    values: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(tmp_path)
    config, out = tmp_path / "config.yaml", tmp_path / "fixed"
    config.write_text(dump_config(load_config(values)))
    before = hashes(tmp_path)
    assert {*EXPECTED} == {*WHAT}, "every kind of change is tested"
    assert main(["doctor", str(config), "--fix", str(out)]) == 0
    after = hashes(tmp_path)
    assert {name: digest for name, digest in after.items() if not name.startswith("fixed/")} == before

    printed = capsys.readouterr().out
    log = [json.loads(line) for line in (out / "fixes.jsonl").read_text().splitlines()]
    assert Counter(line["what"] for line in log) == EXPECTED
    for what, count in EXPECTED.items():
        assert f"fixed    {count} {WHAT[what][count > 1]}" in printed, what
    clipped = next(line for line in log if line["what"] == "box_clipped")
    assert clipped["before"]["bbox"] == [140.0, 100.0, 40.0, 30.0]
    assert clipped["after"]["bbox"] == [140.0, 100.0, 20.0, 20.0]
    assert clipped["after"]["area"] == 400.0
    assert (clipped["part"], clipped["file"], clipped["annotation"]) == ("train", "6.png", clipped["before"]["id"])

    content = json.loads((out / "train.json").read_text())
    assert len(content["images"]) == 24 + 2 - 4
    untouched = json.loads((tmp_path / "train.json").read_text())["annotations"]
    assert [row for row in content["annotations"] if 1 <= row["image_id"] <= 6] == [
        row for row in untouched if row["image_id"] in range(1, 7)
    ]
    assert (out / "val.json").exists()


def test_doctor_and_train_accept_the_result(values: dict[str, Any], tmp_path: Path) -> None:
    spoil(tmp_path)
    assert any(each.severity == "error" for each in findings_of(values))
    (tmp_path / "fixed").mkdir()
    _, left = fix_data(load_config(values), tmp_path / "fixed")
    assert left == []
    path = tmp_path / "fixed" / "config.yaml"
    assert examine(load_config(str(path)))[1] == []
    built = build_run(load_config(str(path)))
    assert (len(built.train.samples), built.notes) == (22, ())


def test_what_a_person_has_to_decide_is_left_and_said(values: dict[str, Any], tmp_path: Path) -> None:
    def change(content: Content) -> None:
        content["images"].append({"id": 500, "file_name": "copy.png", "width": 160, "height": 120})
        content["annotations"].append({**content["annotations"][0], "id": 900, "image_id": 500})
        del content["annotations"][4]["bbox"]
        content["annotations"][4]["segmentation"] = [[5, 5, 30, 5, 30, 30]]

    change_json(tmp_path / "train.json", change)
    shutil.copy(tmp_path / "train" / "0.png", tmp_path / "train" / "copy.png")
    (tmp_path / "fixed").mkdir()
    counts, left = fix_data(load_config(values), tmp_path / "fixed")
    assert counts == {}
    assert any(
        "0.png (image 1) and copy.png (image 500) have the same content and different labels" in each for each in left
    )
    assert any("annotation 5 has a mask and no box" in each for each in left)
    logged = [json.loads(line) for line in (tmp_path / "fixed" / "fixes.jsonl").read_text().splitlines()]
    assert logged == [{"left": each} for each in left]


def test_boxes_in_another_notation_are_not_clipped(values: dict[str, Any], tmp_path: Path) -> None:
    def corners(content: Content) -> None:
        for row in content["annotations"]:
            row["bbox"] = [60.0, 50.0, 155.0, 118.0]

    change_json(tmp_path / "train.json", corners)
    (tmp_path / "fixed").mkdir()
    counts, left = fix_data(load_config(values), tmp_path / "fixed")
    assert not [words for words in counts if "clipped" in words[0]]
    assert any("fit as corners" in each and "No box was changed" in each for each in left)


def test_a_wrong_image_folder_removes_nothing(values: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    picture(0).save(tmp_path / "other" / "unrelated.png")
    values["data"]["train"]["images"] = str(tmp_path / "other")
    (tmp_path / "fixed").mkdir()
    counts, left = fix_data(load_config(values), tmp_path / "fixed")
    assert counts == {}
    assert any("can be read, so none was removed" in each for each in left)


def test_one_json_for_both_parts_keeps_its_images(values: dict[str, Any], tmp_path: Path) -> None:
    for name, fold in (("train", [0, 4]), ("val", [0, 4])):
        values["data"][name] = {**values["data"]["train"], "subset": {"fold": fold}}
    (tmp_path / "fixed").mkdir()
    counts, left = fix_data(load_config(values), tmp_path / "fixed")
    assert (counts, left) == ({}, [])
    assert len(json.loads((tmp_path / "fixed" / "train.json").read_text())["images"]) == 24


def test_label_maps_are_left(tmp_path: Path) -> None:
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
        Image.new("L", (32, 32), int(name == "masks")).save(tmp_path / name / "a.png")
    values = {
        "model": {"plugin": "toy", "arch": "tiny_segmenter", "weights": "none"},
        "data": {
            "classes": ["floor", "crack"],
            **{
                name: {"images": str(tmp_path / "images"), "masks": str(tmp_path / "masks")}
                for name in ("train", "val")
            },
        },
        "train": {"epochs": 1},
        "run": {"out": str(tmp_path / "run")},
    }
    (tmp_path / "fixed").mkdir()
    counts, left = fix_data(load_config(values), tmp_path / "fixed")
    assert counts == {}
    assert len(left) == 2
    assert all("not label maps" in each for each in left)
