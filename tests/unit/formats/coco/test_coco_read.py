from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from tlvision.formats.coco import read_coco, read_unlabelled
from tlvision.types import ClassMap, InputError

Document = dict[str, Any]
CROWD = (
    "train.json: 1 of 2 annotations are crowd regions ('iscrowd': 1), which are neither learned nor counted. "
    "Set 'iscrowd' to 0 if each one marks a single object"
)


def document() -> Document:
    return {
        "images": [
            {"id": 7, "file_name": "a.png", "width": 20, "height": 10},
            {"id": 3, "file_name": "sub/b.png", "width": 12, "height": 16},
        ],
        "annotations": [
            {"id": 5, "image_id": 7, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0},
            {"id": 6, "image_id": 7, "category_id": 3, "bbox": [0, 0, 20, 10], "area": 200, "iscrowd": 1},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 3, "name": "cat"}, {"id": 7, "name": "bird"}],
    }


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "sub").mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(folder / "a.png")
    Image.new("L", (12, 16)).save(folder / "sub" / "b.png")
    return folder


def write(folder: Path, content: object) -> Path:
    path = folder.parent / "train.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_a_good_file(images: Path) -> None:
    data = read_coco(write(images, document()), images)
    assert data.classes == ClassMap(("cat", "bird", "dog"), (3, 7, 90))
    assert data.category_ids == {0: 3, 1: 7, 2: 90}
    assert data.skipped == (CROWD,)
    first, second = data.samples
    assert (first.image_id, first.width, first.height, first.exif) == (7, 20, 10, False)
    assert first.target.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 20, 10]]
    assert first.target.labels.tolist() == [2, 0]
    assert first.target.crowd.tolist() == [False, True]
    assert first.segments == (None, None)
    assert second.path == images / "sub" / "b.png"
    assert len(second.target) == 0  # an image without objects stays


def change(*path: Any, to: Any) -> Callable[[Document], None]:
    def apply(content: Document) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = to

    return apply


def drop(*path: Any) -> Callable[[Document], None]:
    def apply(content: Document) -> None:
        place: Any = content
        for key in path[:-1]:
            place = place[key]
        del place[path[-1]]

    return apply


BAD = [
    (drop("images"), "the key 'images' is missing"),
    (drop("categories"), "the key 'categories' is missing"),
    (drop("annotations"), "the key 'annotations' is missing"),
    (change("images", to=[]), "'images' is empty"),
    (change("annotations", to=[]), "'annotations' is empty"),
    (change("categories", to=[]), "'categories' is empty"),
    (change("images", 1, "id", to=7), "duplicate image id 7. Image ids must be unique"),
    (change("annotations", 1, "id", to=5), "duplicate annotation id 5. Annotation ids must be unique"),
    (change("categories", 1, "id", to=90), "duplicate category id 90. Category ids must be unique"),
    (change("categories", 1, "name", to="dog"), "duplicate category name dog"),
    (change("categories", 1, "name", to=""), "category 3: 'name' must be a text"),
    (change("annotations", 0, "image_id", to=8), "annotation 5: its image_id 8 is not in 'images'"),
    (change("annotations", 0, "category_id", to=0), "annotation 5: its category_id 0 is not in 'categories'"),
    (change("annotations", 0, "id", to="five"), "annotation number 1 has 'id' 'five' .a text., expected an integer"),
    (drop("annotations", 0, "id"), "annotation number 1 has 'id' None"),
    (drop("annotations", 0, "bbox"), "annotation 5: 'bbox' is missing"),
    (change("annotations", 0, "bbox", to=[1, 2, 3]), "annotation 5: 'bbox' must be four numbers"),
    (change("annotations", 0, "bbox", to=[1, 2, 3, "4"]), "annotation 5: 'bbox' must be four numbers"),
    (change("annotations", 0, "iscrowd", to=2), "annotation 5: 'iscrowd' must be 0 or 1"),
    (change("annotations", 0, "area", to="12"), "annotation 5: 'area' must be a number >= 0"),
    (change("annotations", 0, "area", to=-5), "annotation 5: 'area' must be a number >= 0"),
    (change("annotations", to={}), "'annotations' must be a list of objects"),
    (change("images", 0, "file_name", to="../a.png"), "image 7: the file name '../a.png' leaves the image folder"),
    (change("images", 0, "file_name", to="sub/../../a.png"), "leaves the image folder"),
    (change("images", 0, "file_name", to="/etc/a.png"), "leaves the image folder"),
    (change("images", 0, "file_name", to="C:\\a.png"), "leaves the image folder"),
    (change("images", 0, "file_name", to=None), "image 7: 'file_name' must be a text"),
    (change("images", 0, "file_name", to="c.png"), "1 of 2 image files do not exist: .*c.png"),
    (change("images", 0, "width", to=21), "a.png is 20 x 10 but the json says 21 x 10"),
    (change("images", 0, "width", to=0), "width and height must be positive integers"),
]


@pytest.mark.parametrize(("spoil", "words"), BAD)
def test_what_is_wrong_is_named_in_one_sentence(images: Path, spoil: Callable[[Document], None], words: str) -> None:
    content = document()
    spoil(content)
    with pytest.raises(InputError, match=words) as caught:
        read_coco(write(images, content), images)
    assert "\n" not in str(caught.value)
    assert "train.json" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"images": [\n  1,,]}', "not valid JSON at line 2, column 5"),
        ("[]", "a bare list, not a COCO dataset"),
        ('[{"image_id": 1, "category_id": 1, "bbox": [], "score": 1}]', "COCO results"),
        ('[{"image_id": 1, "category_id": 1}]', "a bare list of annotations"),
        ('{"shapes": [], "imagePath": "a.png"}', "labelme"),
        ('{"_via_img_metadata": {}}', "VIA"),
        ('{"a.png1": {"regions": []}}', "VIA"),
        ('{"type": "FeatureCollection", "features": []}', "GeoJSON"),
        ("3", "a bare int"),
        ("{}", "the key 'images' is missing"),
    ],
)
def test_a_foreign_file_is_recognised(images: Path, text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_coco(write(images, text), images)


def test_absent_files_and_folders(images: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing\.json' does not exist"):
        read_coco(tmp_path / "nothing.json", images)
    with pytest.raises(InputError, match=r"the image folder .* does not exist"):
        read_coco(write(images, document()), tmp_path / "nowhere")
    content = document()
    content["images"][0]["file_name"] = "sub"
    with pytest.raises(InputError, match=r"sub' cannot be read as an image"):
        read_coco(write(images, content), images)
    (images / "a.png").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"a\.png' is not an image"):
        read_coco(write(images, document()), images)


def test_bad_boxes_are_skipped_or_clipped_and_listed_with_their_ids(images: Path) -> None:
    content = document()
    boxes = [[float("nan"), 1, 2, 2], [1, 1, -2, 2], [1, 1, 0, 2], [30, 1, 2, 2], [18, 1, 5, 2]]
    content["annotations"] += [
        {"id": 100 + n, "image_id": 7, "category_id": 7, "bbox": box} for n, box in enumerate(boxes)
    ]
    data = read_coco(write(images, content), images)
    assert data.samples[0].target.boxes.tolist() == [[1, 2, 4, 6], [0, 0, 20, 10], [18, 1, 20, 3]]
    assert data.skipped == (
        "train.json: 1 box with nan or infinity, skipped: annotation 100",
        "train.json: 2 boxes without a positive width and height, skipped: annotation 101, 102",
        "train.json: 1 box wholly outside the image, skipped: annotation 103",
        "train.json: 1 box sticking out of the image, clipped: annotation 104",
        "train.json: 5 annotations without area, taken from the box: annotation 100, 101, 102, 103, 104",
        "train.json: 5 annotations without iscrowd, taken as 0: annotation 100, 101, 102, 103, 104",
        CROWD.replace("of 2", "of 3"),
    )


def test_a_file_in_which_no_usable_box_is_left_says_why(images: Path) -> None:
    content = document()
    for row in content["annotations"]:
        row["bbox"] = [50, 50, 2, 2]
    with pytest.raises(InputError, match=r"no usable annotation is left.*wholly outside.*5, 6"):
        read_coco(write(images, content), images)
    data = read_coco(write(images, content), images, require_objects=False)
    assert [len(sample.target) for sample in data.samples] == [0, 0]


def test_require_objects_false_takes_a_list_of_images(images: Path) -> None:
    content = document()
    del content["annotations"]
    assert len(read_coco(write(images, content), images, require_objects=False).samples) == 2


def test_a_val_file_is_matched_by_name_not_by_id(images: Path) -> None:
    train = ClassMap(("dog", "zebra", "cat"), (1, 2, 3))
    content = document()
    data = read_coco(write(images, content), images, train)  # bird has no annotation: said, no error
    assert data.classes is train
    assert data.samples[0].target.labels.tolist() == [0, 2]
    assert data.category_ids == {0: 90, 2: 3}
    assert data.skipped == (
        "train.json: class 'bird' is left out, with its 0 annotations",
        "train.json: it has no class zebra",
        CROWD,
    )
    content["annotations"][0]["category_id"] = 7
    with pytest.raises(InputError, match=r"class 'bird' \(1 annotation\) is not among the classes dog, zebra, cat"):
        read_coco(write(images, content), images, train)


def test_chosen_class_names_keep_their_order_and_others_are_counted(images: Path) -> None:
    path = write(images, document())
    data = read_coco(path, images, class_names=["dog", "bird"])
    assert data.classes == ClassMap(("dog", "bird"), (90, 7))
    assert data.samples[0].target.labels.tolist() == [0]
    assert data.skipped == ("train.json: class 'cat' is left out, with its 1 annotation",)
    with pytest.raises(InputError, match=r"no class 'birds'\. Did you mean 'bird'\?"):
        read_coco(path, images, class_names=["birds"])
    both = read_coco(path, images, data.classes, class_names=["dog", "bird"])
    assert both.samples[0].target.labels.tolist() == [0]


def save_rotated(path: Path, orientation: int, size: tuple[int, int] = (20, 10)) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", size).save(path, exif=exif)


@pytest.mark.parametrize(
    ("orientation", "said", "applied", "noted"),
    [
        (1, (20, 10), False, False),
        (3, (20, 10), True, True),
        (6, (10, 20), True, False),
        (6, (20, 10), False, True),
        (6, (None, None), True, True),
        (1, (None, None), False, True),
    ],
)
def test_the_rule_for_exif(
    images: Path, orientation: int, said: tuple[int | None, int | None], applied: bool, noted: bool
) -> None:
    save_rotated(images / "a.jpg", orientation)
    content = document()
    content["images"][0] = {"id": 7, "file_name": "a.jpg"}
    if said[0] is not None:
        content["images"][0].update(width=said[0], height=said[1])
    content["annotations"] = content["annotations"][:1]
    data = read_coco(write(images, content), images)
    sample = data.samples[0]
    assert sample.exif is applied
    assert (sample.width, sample.height) == ((10, 20) if orientation == 6 and applied else (20, 10))
    assert any("a.jpg" in note for note in data.skipped) is noted


def test_exif_that_fits_neither_way_names_both_sizes(images: Path) -> None:
    save_rotated(images / "a.jpg", 6)
    content = document()
    content["images"][0].update(file_name="a.jpg", width=30)
    with pytest.raises(InputError, match=r"a\.jpg is 10 x 20 but the json says 30 x 10"):
        read_coco(write(images, content), images)


def test_images_without_a_json(images: Path) -> None:
    save_rotated(images / "a.jpg", 6)
    samples = read_unlabelled([images / "a.png", images / "a.jpg"])
    assert [(s.image_id, s.width, s.height, s.exif, len(s.target)) for s in samples] == [
        (1, 20, 10, False, 0),
        (2, 10, 20, True, 0),
    ]
    with pytest.raises(InputError, match="1 of 1 image files do not exist"):
        read_unlabelled([images / "c.png"])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["bccd/train", "coco128/val_seg", "driving_kitti/val"])
def test_real_files_agree_with_pycocotools(shared: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = shared / "data" / f"{name}.json"
    data = read_coco(path, path.parent / "images")
    reference = COCO(str(path))
    capsys.readouterr()
    assert {sample.image_id for sample in data.samples} == set(reference.getImgIds())
    assert all("crowd regions" in note for note in data.skipped)
    for sample in data.samples:
        rows = reference.loadAnns(reference.getAnnIds(sample.image_id))
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        assert np.abs(sample.target.boxes - boxes).max(initial=0) < 1e-3
        assert [data.category_ids[label] for label in sample.target.labels.tolist()] == [
            row["category_id"] for row in rows
        ]
