"""Labels of every tool come out as the objects that went in, and what is wrong is one sentence with its place."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools import Writer, write_cvat, write_label_studio, write_labelme, write_open_images, write_voc
from tlvision.cli.main import main
from tlvision.formats.coco import read_coco
from tlvision.formats.coco.rle import mask_to_rle, rle_to_mask
from tlvision.formats.exchange import Labels, Picture, Shape, read_any, to_coco, write_yolo
from tlvision.formats.exchange.coco import read_labels
from tlvision.types import InputError

BOXES = (Shape("cat", (3.0, 4.0, 20.0, 30.0)), Shape("dög & co", (0.0, 0.0, 64.0, 48.0)))
OUTLINE = (5.0, 5.0, 30.5, 6.0, 20.0, 40.25)
POLYGONS = (Shape("cat", (5.0, 5.0, 30.5, 40.25), (OUTLINE,)),)
TWO = Shape("cat", (1.0, 1.0, 60.0, 40.0), ((1.0, 1.0, 9.0, 1.0, 9.0, 9.0), (50.0, 30.0, 60.0, 30.0, 60.0, 40.0)))
WRITERS: dict[str, tuple[Writer, bool]] = {
    "Pascal VOC": (write_voc, False),
    "LabelMe": (write_labelme, True),
    "CVAT xml": (write_cvat, True),
    "Label Studio": (write_label_studio, True),
    "Open Images csv": (write_open_images, False),
}
"""Format -> its writer, and whether it has outlines."""


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Three images, one below a folder and one with another size."""
    folder = tmp_path / "pictures"
    (folder / "new").mkdir(parents=True)
    for name, size in (("a.jpg", (64, 48)), ("new/ü b.png", (64, 48)), ("empty.png", (30, 70))):
        Image.new("RGB", size).save(folder / name)
    return folder


def dataset(pictures: Path, shapes: tuple[Shape, ...] = BOXES) -> Labels:
    found = (Picture("a.jpg", 64, 48, shapes), Picture("empty.png", 30, 70, ()), Picture("new/ü b.png", 64, 48, shapes))
    return Labels("test", pictures, tuple(sorted({shape.label for shape in shapes})), found)


def objects(labels: Labels, *, empty: bool = True) -> list[tuple[object, ...]]:
    """Return what must be equal, rounded to what a float in per cent can keep."""

    def rounded(values: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(round(value, 9) for value in values)

    return [
        (
            each.file,
            each.width,
            each.height,
            [(s.label, rounded(s.box), [rounded(o) for o in s.outlines]) for s in each.shapes],
        )
        for each in sorted(labels.pictures, key=lambda each: each.file)
        if each.shapes or empty
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_what_a_tool_writes_is_read_as_it_was(kind: str, pictures: Path, tmp_path: Path) -> None:
    writer, outlines = WRITERS[kind]
    for number, shapes in enumerate([BOXES, (*BOXES, *POLYGONS)] if outlines else [BOXES]):
        labels = dataset(pictures, shapes)
        (found,) = read_any(writer(labels, tmp_path / f"out{number}"), pictures).values()
        assert found.kind == kind
        keeps_empty = kind != "Open Images csv"  # it has rows of boxes alone
        assert objects(found) == objects(labels, empty=keeps_empty)
        assert set(found.classes) == set(labels.classes)


def test_outlines_of_a_group_are_one_object(pictures: Path, tmp_path: Path) -> None:
    (found,) = read_any(write_labelme(dataset(pictures, (TWO, TWO)), tmp_path / "out"), pictures).values()
    assert objects(found) == objects(dataset(pictures, (TWO, TWO)))


def test_yolo_there_and_back(pictures: Path, tmp_path: Path) -> None:
    for number, shapes in enumerate([BOXES, POLYGONS]):
        out = tmp_path / f"yolo{number}"
        labels = dataset(pictures, shapes)
        assert write_yolo({"train": labels, "val": labels}, out) == []
        parts = read_any(out / "data.yaml")
        assert list(parts) == ["train", "val"]
        assert objects(parts["val"]) == objects(labels)
        assert parts["val"].classes == labels.classes
        assert objects(read_any(out)["train"]) == objects(labels), "the folder is enough"
    mixed = (*BOXES, replace(POLYGONS[0], crowd=True), TWO)
    notes = write_yolo({"train": dataset(pictures, mixed)}, tmp_path / "mixed")
    assert notes == [
        "boxes alone: 2 of 6 objects have outlines; all need exactly one",
        "2 crowd regions left out, which YOLO's format cannot say",
    ]
    assert len((tmp_path / "mixed" / "labels" / "train" / "a.txt").read_text().splitlines()) == 3


def test_an_independent_reader_finds_the_same(pictures: Path, tmp_path: Path) -> None:
    """supervision reads what we write as YOLO, and what we read as Pascal VOC."""
    import supervision

    shutil.move(pictures / "new" / "ü b.png", pictures / "b.png")
    labels = Labels(
        "test", pictures, ("cat", "dög & co"), (Picture("a.jpg", 64, 48, BOXES), Picture("b.png", 64, 48, ()))
    )
    (pictures / "empty.png").unlink()
    write_yolo({"train": labels}, tmp_path / "yolo")
    (tmp_path / "yolo" / "data.yaml").write_text("names: [cat, dog]\n")
    read = supervision.DetectionDataset.from_yolo(
        str(tmp_path / "yolo/images/train"), str(tmp_path / "yolo/labels/train"), str(tmp_path / "yolo/data.yaml")
    )
    boxes = {Path(name).name: found.xyxy for name, _, found in read}
    np.testing.assert_allclose(boxes["a.jpg"], [shape.box for shape in BOXES], atol=1e-4)
    assert len(boxes["b.png"]) == 0


def test_coco_is_written_with_areas_and_read_back(pictures: Path, tmp_path: Path) -> None:
    labels = dataset(pictures, (*BOXES, *POLYGONS, TWO))
    content = to_coco(labels)
    assert [row["area"] for row in content["annotations"][:4]] == [442.0, 3072.0, 441.9375, 32.0 + 50.0]
    path = tmp_path / "all.json"
    path.write_text(json.dumps(content))
    assert objects(read_labels(path, pictures)) == objects(labels)
    assert len(read_coco(path, pictures).samples) == 3


def test_masks_of_cvat_are_run_lengths_of_the_whole_image(pictures: Path, tmp_path: Path) -> None:
    inner = np.zeros((3, 4), bool)
    inner[1:, 2:] = True
    text = (
        '<annotations><image id="0" name="a.jpg" width="64" height="48">'
        '<mask label="cat" rle="6, 2, 2, 2" left="10" top="20" width="4" height="3"/></image></annotations>'
    )
    (tmp_path / "masks.xml").write_text(text)
    (found,) = read_any(tmp_path / "masks.xml", pictures)["all"].pictures[0].shapes
    whole = np.zeros((48, 64), bool)
    whole[20:23, 10:14] = inner
    assert found.rle is not None
    np.testing.assert_array_equal(rle_to_mask(mask_to_rle(whole)), whole)
    path = tmp_path / "masks.json"
    path.write_text(json.dumps(to_coco(read_any(tmp_path / "masks.xml", pictures)["all"])))
    sample = read_coco(path, pictures, require_masks=True).samples[0]
    np.testing.assert_array_equal(rle_to_mask(sample.segments[0]), whole)  # type: ignore[arg-type]


def test_turned_boxes_are_polygons(pictures: Path, tmp_path: Path) -> None:
    box = '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="20" rotation="90"/>'
    text = f'<annotations><image id="0" name="a.jpg" width="64" height="48">{box}</image></annotations>'
    (tmp_path / "cvat.xml").write_text(text)
    (found,) = read_any(tmp_path / "cvat.xml", pictures)["all"].pictures[0].shapes
    assert found.box == pytest.approx((15, 5, 25, 25))
    assert found.outlines[0][:2] == pytest.approx((25, 5)), "the first corner is turned clockwise, about the centre"
    value = {"x": 0, "y": 0, "width": 50, "height": 25, "rotation": 90, "rectanglelabels": ["cat"]}
    row = {"type": "rectanglelabels", "value": value, "original_width": 64, "original_height": 48}
    tasks = [{"data": {"image": "a.jpg"}, "annotations": [{"result": [row]}]}]
    (tmp_path / "export.json").write_text(json.dumps(tasks))
    (found,) = read_any(tmp_path / "export.json", pictures)["all"].pictures[0].shapes
    assert found.box == pytest.approx((-12, 0, 0, 32)), "Label Studio turns about the first corner"


def test_voc_that_counts_from_0_is_said_and_difficult_is_crowd(pictures: Path, tmp_path: Path) -> None:
    shapes = (Shape("cat", (0.0, 0.0, 10.0, 10.0)), Shape("cat", (5.0, 5.0, 9.0, 9.0), crowd=True))
    out = write_voc(dataset(pictures, shapes), tmp_path / "out")
    (found,) = read_any(out, pictures).values()
    assert found.notes == ("2 objects marked difficult: crowd regions, neither learned nor counted",)
    assert [shape.crowd for shape in found.pictures[0].shapes] == [False, True]
    for path in (out / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<xmin>1.0<", "<xmin>0<").replace("<ymin>1.0<", "<ymin>0<"))
    (found,) = read_any(out, pictures).values()
    assert found.pictures[0].shapes[0].box == (0, 0, 10, 10)
    assert found.pictures[0].shapes[1].box == (6, 6, 9, 9)
    assert "boxes begin at 0" in found.notes[0]


def test_what_has_no_area_is_left_out_and_counted(pictures: Path, tmp_path: Path) -> None:
    out = write_labelme(dataset(pictures), tmp_path / "out")
    path = out / "0.json"
    content = json.loads(path.read_text())
    content["shapes"] += [{"label": "cat", "points": [[1, 1]], "shape_type": "point"}] * 2
    path.write_text(json.dumps(content))
    (found,) = read_any(out, pictures).values()
    assert found.notes == ("2 shapes of type 'point' left out: 0.json, shape 2, 0.json, shape 3",)
    (out / "1.json").unlink()
    (found,) = read_any(out, pictures).values()
    assert "1 images without a json file: empty.png" in found.notes


def yolo(pictures: Path, tmp_path: Path) -> Path:
    write_yolo({"train": dataset(pictures)}, tmp_path / "yolo")
    return tmp_path / "yolo"


def test_roboflows_paths_and_label_lists_of_other_tools(pictures: Path, tmp_path: Path) -> None:
    folder = yolo(pictures, tmp_path)
    shutil.move(folder / "images" / "train", tmp_path / "train-images")
    (folder / "train").mkdir()
    shutil.move(tmp_path / "train-images", folder / "train" / "images")
    shutil.move(folder / "labels" / "train", folder / "train" / "labels")
    (folder / "data.yaml").write_text("train: ../train/images\nnc: 2\nnames: [cat, dog]\n")
    assert objects(read_any(folder)["train"])[0][0] == "a.jpg"
    for name in ("classes.txt", "obj.names"):
        flat = tmp_path / name.replace(".", "_")
        shutil.copytree(folder / "train" / "images", flat)
        for path in (folder / "train" / "labels").rglob("*.txt"):
            target = flat / path.relative_to(folder / "train" / "labels")
            shutil.copyfile(path, target)
        (flat / name).write_text("cat\ndog\n")
        (found,) = read_any(flat).values()
        assert [len(each.shapes) for each in found.pictures] == [2, 0, 2]


def test_images_without_a_label_file_have_no_objects(pictures: Path, tmp_path: Path) -> None:
    folder = yolo(pictures, tmp_path)
    (folder / "labels" / "train" / "a.txt").unlink()
    (folder / "labels" / "train" / "other.txt").write_text("")
    notes = read_any(folder)["train"].notes
    assert "1 label files without an image" in notes[0]
    assert notes[1] == "1 image without a label file: without objects, as YOLO's trainers read it"
    shutil.rmtree(folder / "labels" / "train")
    with pytest.raises(InputError, match="has no label file for any of 3 images"):
        read_any(folder)


YOLO_DAMAGE: dict[str, tuple[str, str]] = {
    "0 0.5 0.5 0.1": ("a.txt", "a.txt, line 1: 3 numbers after the class"),
    "0 0.5 0.5 0.1 0.1 0.9": ("a.txt", "a.txt, line 1: 5 numbers after the class"),
    "2 0.5 0.5 0.1 0.1": ("a.txt", "a.txt, line 1: class 2, but there are 2 classes, 0 to 1"),
    "-1 0.5 0.5 0.1 0.1": ("a.txt", "a.txt, line 1: class -1"),
    "\n0 32 24 10 10": ("a.txt", "a.txt, line 2: 32 is not from 0 to 1"),
    "0 nan 0.5 0.1 0.1": ("a.txt", "a.txt, line 1: nan is not from 0 to 1"),
    "cat 0.5 0.5 0.1 0.1": ("a.txt", "a.txt, line 1: expected numbers"),
    "names: {0: a, 2: b}\ntrain: images/train": ("data.yaml", "names: expected the numbers 0 to 1, got ['0', '2']"),
    "names: [a, a]\ntrain: images/train": ("data.yaml", "'a' is given twice"),
    "names: [a, b]\ntrain: images/none": ("data.yaml", "train: there is no folder"),
    "names: [a, b]\n": ("data.yaml", "none of train, val, valid, test is given"),
    "names: [a, b]\nkpt_shape: [17, 3]\ntrain: images/train": ("data.yaml", "labels of key points"),
    "names: [a, b\n": ("data.yaml", "not YAML"),
}


@pytest.mark.parametrize("text", YOLO_DAMAGE)
def test_damage_in_yolo_is_named(text: str, pictures: Path, tmp_path: Path) -> None:
    folder = yolo(pictures, tmp_path)
    name, message = YOLO_DAMAGE[text]
    (folder / name if name == "data.yaml" else folder / "labels" / "train" / name).write_text(text)
    with pytest.raises(InputError) as caught:
        read_any(folder / "data.yaml")
    assert message in str(caught.value)


DAMAGE: list[tuple[str, str, str, str]] = [
    ("Pascal VOC", "<xmin>4.0</xmin>", "<xmin>four</xmin>", "0.xml, object 'cat': xmin: expected a number, got 'four'"),
    ("Pascal VOC", "<width>64</width>", "<width>32</width>", "0.xml: the labels are of an image of 32 x 48 pixels"),
    ("Pascal VOC", "<name>cat</name>", "", "0.xml: an object has no name"),
    ("Pascal VOC", "a.jpg", "c.jpg", "0.xml: image '0' is not in"),
    ("Pascal VOC", "<annotation>", "<!DOCTYPE a><annotation>", "0.xml: declares a document type"),
    ("Pascal VOC", "</annotation>", "", "0.xml: not xml"),
    ("Pascal VOC", "bndbox", "robndbox", "0.xml: object 'cat' has no bndbox"),
    ("LabelMe", '"label": "cat"', '"label": ""', "0.json, shape 0: has no label"),
    ("LabelMe", "[20.0, 4.0]", "[20.0]", "0.json, shape 0: points: expected pairs of numbers"),
    ("LabelMe", "[20.0, 4.0]", "[NaN, 4.0]", "0.json, shape 0: points: expected finite numbers"),
    ("LabelMe", '"imageWidth": 64', '"imageWidth": 640', "0.json: the labels are of an image of 640 x 48"),
    ("LabelMe", "a.jpg", "c.jpg", "0.json: image '..\\pictures\\c.jpg' is not in"),
    ("CVAT xml", 'xtl="3.0"', 'xtl="inf"', "image 'a.jpg', box 'cat': xtl: expected a number, got 'inf'"),
    ("CVAT xml", 'name="empty.png"', 'name="a.jpg"', "image 'a.jpg': is described twice"),
    ("CVAT xml", "<image id", '<track id="0"></track><image id', "tracks of a video"),
    ("CVAT xml", 'label="cat"', "", "a box has no label"),
    ("Label Studio", '"rectanglelabels": ["cat"]', '"rectanglelabels": []', "has 0 labels; it needs one"),
    ("Label Studio", '"width": ', '"w": ', "lacks numbers"),
    ("Label Studio", '"annotations"', '"answers"', "export as JSON, not JSON-MIN"),
    ("Label Studio", "a.jpg", "c.jpg", "task 0: image 'c.jpg' is not in"),
    ("Open Images csv", "XMin", "X", "XMin is missing"),
    ("Open Images csv", "1.0,", "1.5,", "expected XMin, YMin, XMax and YMax from 0 to 1"),
]


@pytest.mark.parametrize("damage", DAMAGE, ids=lambda damage: f"{damage[0]}-{damage[2]}")
def test_damage_is_named(damage: tuple[str, str, str, str], pictures: Path, tmp_path: Path) -> None:
    kind, old, new, message = damage
    path = WRITERS[kind][0](dataset(pictures), tmp_path / "out")
    changed = 0
    for file in [path] if path.is_file() else sorted(path.rglob("*.*")):
        text = file.read_text(encoding="utf-8")
        changed += old in text
        file.write_text(text.replace(old, new), encoding="utf-8")
    assert changed
    with pytest.raises(InputError) as caught:
        read_any(path, pictures)
    assert message in str(caught.value)


def test_an_image_that_two_names_mean_is_refused(pictures: Path, tmp_path: Path) -> None:
    (pictures / "old").mkdir()
    shutil.copyfile(pictures / "new" / "ü b.png", pictures / "old" / "ü b.png")
    path = write_label_studio(dataset(pictures), tmp_path / "out")  # it has names without folders
    with pytest.raises(InputError, match=r"may be new/ü b\.png, old/ü b\.png; rename one of them"):
        read_any(path, pictures)
    Image.new("RGB", (64, 48)).save(pictures / "a.png")
    folder = yolo(pictures, tmp_path)
    shutil.copyfile(pictures / "a.png", folder / "images" / "train" / "a.png")
    with pytest.raises(InputError, match=r"a\.jpg and a\.png have one label file, a\.txt"):
        read_any(folder)


def test_names_never_leave_the_folder_of_images(pictures: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 48)).save(tmp_path / "secret.jpg")
    path = write_cvat(dataset(pictures), tmp_path / "out")
    path.write_text(path.read_text().replace("a.jpg", "../secret.jpg"))
    with pytest.raises(InputError, match=r"image '\.\./secret\.jpg' is not in"):
        read_any(path, pictures)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.txt", "words", "is neither .json, .yaml, .xml nor .csv"),
        ("other.json", "{}", "is no json of COCO, Label Studio or LabelMe"),
        ("one.json", '{"shapes": [], "imagePath": "a.jpg"}', "is one image of LabelMe. Give the folder"),
        ("page.xml", "<html></html>", "expected <annotations>, got <html>"),
    ],
)
def test_what_is_no_dataset_is_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as caught:
        read_any(tmp_path / name)
    assert message in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"has none of data\.yaml"):
        read_any(tmp_path / "empty")


def test_the_command_says_what_it_found_and_how_a_config_reads_it(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    voc = write_voc(dataset(pictures), tmp_path / "voc")
    command = ["convert", str(voc), str(tmp_path / "coco"), "--images", str(pictures)]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "all    Pascal VOC: 3 images, 4 objects, 2 classes, 1 image without objects" in printed
    assert f"  train: {{json: {tmp_path / 'coco' / 'all.json'}, images: {pictures}}}" in printed
    assert objects(read_labels(tmp_path / "coco" / "all.json", pictures)) == objects(dataset(pictures))
    assert main(["convert", str(tmp_path / "coco" / "all.json"), str(tmp_path / "x"), "--images", str(pictures)]) == 2
    assert "is COCO already; use it as it is" in capsys.readouterr().err
    to_yolo = ["convert", str(tmp_path / "coco" / "all.json"), str(tmp_path / "y"), "--images", str(pictures)]
    assert main([*to_yolo, "--to", "yolo"]) == 0
    assert objects(read_any(tmp_path / "y")["train"]) == objects(dataset(pictures))


def test_roboflows_coco_is_named_as_it_is(pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split in ("train", "valid"):
        shutil.copytree(pictures, tmp_path / "export" / split)
        content = json.dumps(to_coco(dataset(tmp_path / "export" / split)))
        (tmp_path / "export" / split / "_annotations.coco.json").write_text(content)
    assert main(["convert", str(tmp_path / "export"), str(tmp_path / "out")]) == 2
    printed = capsys.readouterr().err
    folder = tmp_path / "export" / "valid"
    assert f"  val: {{json: {folder / '_annotations.coco.json'}, images: {folder}}}" in printed


def test_a_pipe_beside_the_labels_stops_nothing(pictures: Path, tmp_path: Path) -> None:
    """Opening one waits for ever."""
    for name in ("data.yaml", "a.xml"):
        folder = tmp_path / name
        folder.mkdir()
        os.mkfifo(folder / name)
        with pytest.raises(InputError, match="has none of"):
            read_any(folder)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["bccd", "coco128", "driving_kitti", "deeppcb"])
def test_real_labels_come_back_exactly(name: str, shared: Path, tmp_path: Path) -> None:
    folder = shared / "data" / name
    labels = read_labels(folder / "val.json", folder / "images")
    kept = [replace(each, shapes=tuple(s for s in each.shapes if not s.crowd)) for each in labels.pictures]
    plain = [replace(each, shapes=tuple(replace(s, outlines=(), rle=None) for s in each.shapes)) for each in kept]
    boxes = replace(labels, pictures=tuple(plain))
    assert boxes.objects > 50
    write_yolo({"val": boxes}, tmp_path / "yolo")
    assert objects(read_any(tmp_path / "yolo")["val"]) == objects(boxes)
    for kind, (writer, _) in WRITERS.items():
        (found,) = read_any(writer(boxes, tmp_path / kind), folder / "images").values()
        assert objects(found, empty=False) == objects(boxes, empty=False), kind
