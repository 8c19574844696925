"""A COCO json that is wrong in one way: an error, a counted note, or accepted; evaluation decides as training does."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

import poison.dataset
from tlvision.evaluation import measurable
from tlvision.formats.coco import read_coco
from tlvision.types import InputError, TlvisionError

Json = dict[str, Any]
NAN, HUGE = float("nan"), 10**400


def document() -> Json:
    """Two images, six objects of two classes, each box in its own place, without masks."""
    content = poison.dataset.document()
    for row in content["annotations"]:
        del row["segmentation"]
    return content


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile") / "images"
    folder.mkdir()
    for shade, name in ((20, "a.png"), (90, "b.png")):
        Image.new("RGB", (40, 24), (shade, shade, shade)).save(folder / name)
    return folder


def put(where: str, value: object) -> Callable[[Json], None]:
    """Set a value: "annotations.0.bbox"; `all(…)` sets it in every row."""

    def change(content: Json) -> None:
        *path, last = where.split(".")
        place: Any = content
        for key in path:
            place = place[int(key)] if key.isdigit() else place[key]
        place[int(last) if last.isdigit() else last] = copy.deepcopy(value)

    return change


def drop(where: str) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        *path, last = where.split(".")
        place: Any = content
        for key in path:
            place = place[int(key)] if key.isdigit() else place[key]
        del place[int(last) if last.isdigit() else last]

    return change


def every(key: str, make: Callable[[Json], object]) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        for row in content["annotations"]:
            row[key] = make(row)

    return change


def twice(content: Json) -> None:
    content["annotations"] += [{**row, "id": row["id"] + 100} for row in content["annotations"]]


def split(content: Json) -> None:
    content["images"].append({**content["images"][0], "id": 77})


def root(name: str) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        for row in content["categories"]:
            row["supercategory"] = name
        content["categories"].insert(0, {"id": 0, "name": name, "supercategory": "none"})

    return change


def names(form: str) -> Callable[[Json], None]:
    def change(content: Json) -> None:
        for row in content["images"]:
            row["file_name"] = form.format(row["file_name"])

    return change


def deep(content: Json) -> None:
    nested: Any = 1
    for _ in range(60):
        nested = [nested]
    content["annotations"][0]["bbox"] = nested


# What is wrong, what is done, and the outcome: an error with these words, a note with these words, or "" for accepted.
ERRORS: list[tuple[str, Callable[[Json], None], str]] = [
    ("all crowd", every("iscrowd", lambda row: 1), "all 6 annotations are crowd regions"),
    (
        "fractions",
        every("bbox", lambda row: [row["bbox"][0] / 40, row["bbox"][1] / 24, 0.2, 0.2]),
        "lie between 0 and 1",
    ),
    ("corners as fractions", every("bbox", lambda row: [0.6, 0.6, 0.9, 0.9]), "lie between 0 and 1"),
    ("texts in boxes", every("bbox", lambda row: [str(each) for each in row["bbox"]]), "four numbers"),
    (
        "no usable box",
        every("bbox", lambda row: [5, 5, 0, 0]),
        "no usable annotation is left: .*6 boxes without a positive",
    ),
    ("no annotation", put("annotations", []), "'annotations' is empty"),
    ("one file, two rows", split, "1 image files? ha.* more than one row .*a.png with the ids 1, 77"),
    ("box of three", put("annotations.0.bbox", [1, 2, 3]), "four numbers"),
    ("box of lists", deep, "four numbers"),
    ("box is a text", put("annotations.0.bbox", "1,2,3,4"), "four numbers"),
    ("true in a box", put("annotations.0.bbox", [True, 1, 2, 3]), "four numbers"),
    ("no box", drop("annotations.0.bbox"), "'bbox' is missing"),
    ("area is a text", put("annotations.0.area", "40"), "'area' must be a number >= 0"),
    ("area is negative", put("annotations.0.area", -5), "'area' must be a number >= 0"),
    ("area is nan", put("annotations.0.area", NAN), "'area' must be a number >= 0"),
    ("area is huge", put("annotations.0.area", HUGE), "'area' must be a number >= 0"),
    ("area is true", put("annotations.0.area", True), "'area' must be a number >= 0"),
    ("crowd is 2", put("annotations.0.iscrowd", 2), "'iscrowd' must be 0 or 1"),
    ("crowd is a text", put("annotations.0.iscrowd", "0"), "'iscrowd' must be 0 or 1"),
    ("crowd is 0.5", put("annotations.0.iscrowd", 0.5), "'iscrowd' must be 0 or 1"),
    ("id is a text", put("annotations.0.id", "1"), r"'1' \(a text\)"),
    ("id is a float", put("annotations.0.id", 1.0), r"1.0 \(a number with a decimal point\)"),
    ("id is a list", put("annotations.0.id", [1]), r"\(a list\)"),
    ("id is null", put("annotations.0.id", None), "'id' None"),
    ("id twice", put("annotations.0.id", 2), "duplicate annotation id 2. Annotation ids must be unique"),
    ("image is a text", put("annotations.0.image_id", "1"), r"'1' \(a text\).*ids must be integers"),
    ("image is unknown", put("annotations.0.image_id", 9), "image_id 9 is not in 'images'"),
    ("image is a dict", put("annotations.0.image_id", {}), r"\(an object\)"),
    ("class is a text", put("annotations.0.category_id", "3"), r"'3' \(a text\)"),
    ("class is unknown", put("annotations.0.category_id", 4), "category_id 4 is not in 'categories'"),
    ("image id text", put("images.0.id", "x"), r"'x' \(a text\)"),
    ("image id twice", put("images.1.id", 1), "duplicate image id 1. Image ids must be unique"),
    ("category id float", put("categories.0.id", 3.0), "decimal point"),
    ("category twice", put("categories.1.name", "bolt"), "duplicate category name bolt"),
    ("category without a name", drop("categories.0.name"), "'name' must be a text"),
    ("category name is a number", put("categories.0.name", 7), "'name' must be a text"),
    ("category name is blank", put("categories.0.name", "  "), "'name' must be a text"),
    ("no categories", put("categories", []), "'categories' is empty"),
    ("no images", put("images", []), "'images' is empty"),
    ("images is a dict", put("images", {}), "'images' must be a list"),
    ("annotations is null", put("annotations", None), "'annotations' must be a list"),
    ("annotations of numbers", put("annotations", [1, 2]), "'annotations' must be a list of objects"),
    ("file name is a dot", put("images.0.file_name", "."), "is the image folder itself"),
    ("file name is empty", put("images.0.file_name", ""), "'file_name' must be a text"),
    ("file name is a number", put("images.0.file_name", 5), "'file_name' must be a text"),
    (
        "file name has half of a pair",
        put("images.0.file_name", "a\ud83d.png"),
        r"json, image 1: half of a surrogate pair in 'file_name': 'a\\ud83d.png'. Rename the file, and correct",
    ),
    (
        "class name has half of a pair",
        put("categories.1.name", "nut\udcff"),
        r"json, category 90: half of a surrogate pair in 'name': 'nut\\udcff'. Write the character itself",
    ),
    ("file name has NUL", put("images.0.file_name", "a\0.png"), "is not a file name"),
    ("file name is long", put("images.0.file_name", "x" * 5000), "is not a file name"),
    ("file name goes up", put("images.0.file_name", "../../x.png"), "leaves the image folder"),
    ("file name goes up by backslashes", put("images.0.file_name", "..\\..\\x.png"), "leaves the image folder"),
    ("file name is absolute", put("images.0.file_name", "/etc/passwd"), "leaves the image folder"),
    ("file name has a drive", names("C:\\data\\{}"), r"a.png' exists: remove 'C:\\data\\' from each file_name"),
    ("file name is an address", names("/data/local-files/?d=images/{}"), "a.png' exists: remove"),
    ("file name has the folder twice", names("images/{}"), "do not exist.*a.png' exists: remove 'images/'"),
    ("image is gone", put("images.0.file_name", "gone.png"), "1 of 2 image files do not exist"),
    ("width is a text", put("images.0.width", "40"), "width and height must be positive integers"),
    ("width is true", put("images.0.width", True), "width and height must be positive integers"),
    ("width is zero", put("images.0.width", 0), "width and height must be positive integers"),
    ("width is huge", put("images.0.width", HUGE), "another size than the json says"),
    ("another size", put("images.0.width", 41), "another size than the json says"),
]
NOTES: list[tuple[str, Callable[[Json], None], str]] = [
    ("one crowd", put("annotations.0.iscrowd", 1), "1 of 6 annotations are crowd regions"),
    ("one fraction of three", every("bbox", lambda row: [0.1, 0.1, 0.2, 0.2] if row["id"] < 4 else row["bbox"]),
     "3 of 6 boxes lie between 0 and 1"),
    ("corners", every("bbox", lambda row: [*row["bbox"][:2], row["bbox"][0] + row["bbox"][2] + 4,
     row["bbox"][1] + row["bbox"][3] + 4]), "fit as corners"),
    ("centres", every("bbox", lambda row: [34, 18, 11, 11] if row["id"] % 2 else [8, 8, 9, 9]), "fit as centres"),
    ("every annotation twice", twice, "6 annotations repeat another one"),
    ("nan in a box", put("annotations.0.bbox", [NAN, 1, 2, 2]), "1 box with nan or infinity, skipped: annotation 1"),
    ("a huge number in a box", put("annotations.0.bbox", [HUGE, 1, 2, 2]), "1 box with nan or infinity, skipped"),
    ("a huge float in a box", put("annotations.0.bbox", [1e300, 1, 2, 2]), "1 box with nan or infinity, skipped"),
    ("no width", put("annotations.0.bbox", [5, 5, 0, 3]), "1 box without a positive width and height, skipped"),
    ("negative width", put("annotations.0.bbox", [5, 5, -3, 3]), "1 box without a positive width and height, skipped"),
    ("outside", put("annotations.0.bbox", [500, 5, 3, 3]), "1 box wholly outside the image, skipped"),
    ("sticks out", put("annotations.0.bbox", [38, 5, 9, 3]), "1 box sticking out of the image, clipped"),
    ("area is null", put("annotations.0.area", None), "1 annotation without area, taken from the box"),
    ("no area", drop("annotations.0.area"), "1 annotation without area, taken from the box"),
    ("crowd is null", put("annotations.0.iscrowd", None), "1 annotation without iscrowd, taken as 0"),
    ("backslashes", names(".\\{}"), "2 file names have backslashes, read as slashes"),
    ("size is missing", drop("images.0.width"), "width or height is missing and was taken from the file"),
    ("an empty root", root("fasteners"), "the category fasteners has no annotation and only groups the others"),
    ("an empty root of the same name", root("bolt"), "the category bolt has no annotation and only groups the others"),
    ("a mask that cannot be read", put("annotations.0.segmentation", [[1, 2]]), "1 segmentation cannot be read"),
    ("a mask of text", put("annotations.0.segmentation", "mask"), "1 segmentation cannot be read"),
    ("a run length of another size", put("annotations.0.segmentation", {"size": [9, 9], "counts": [81]}),
     "1 segmentation cannot be read"),
    ("a short polygon beside a good one", put("annotations.0.segmentation", [[1, 1, 2, 2], [2, 2, 9, 2, 9, 7]]),
     "1 annotation with a polygon of fewer than three points next to valid ones"),
]  # fmt: skip
ACCEPTED: list[tuple[str, Callable[[Json], None], str]] = [
    ("as it is", lambda content: None, ""),
    ("crowd is false", put("annotations.0.iscrowd", False), ""),
    ("class ids 0 and 10^12", lambda c: [
        *(row.update(id={3: 0, 90: 10**12}[row["id"]]) for row in c["categories"]),
        *(row.update(category_id={3: 0, 90: 10**12}[row["category_id"]]) for row in c["annotations"]),
    ] and None, ""),
    ("an image without objects", lambda c: c["annotations"].__delitem__(slice(0, None, 2)), ""),
    ("more keys", put("annotations.0.attributes", {"occluded": True}), ""),
    ("a dot in the name", names("./{}"), ""),
    ("a class name of both halves", put("categories.0.name", "bolt \U0001f529"), ""),
    ("area zero", put("annotations.0.area", 0), ""),
]  # fmt: skip
CASES = [(*case, kind) for kind, cases in (("error", ERRORS), ("note", NOTES), ("fine", ACCEPTED)) for case in cases]
assert len(CASES) > 80


@pytest.mark.parametrize("case", CASES, ids=[case[0] for case in CASES])
def test_a_json_that_is_wrong_in_one_way(
    images: Path, tmp_path: Path, case: tuple[str, Callable[[Json], None], str, str]
) -> None:
    _, change, words, kind = case
    content = document()
    change(content)
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content))
    if kind == "error":
        with pytest.raises(InputError, match=words) as caught:
            read_coco(path, images)
        assert "train.json" in str(caught.value)
        assert len(str(caught.value)) < 700
        return
    data = read_coco(path, images)
    if kind == "note":
        assert any(words in note for note in data.skipped), data.skipped
    else:
        assert data.skipped == ()
    # What training accepts, evaluation accepts, and it measures the same objects.
    assert "AP" in measurable(path)
    assert sum((~sample.target.crowd).sum() for sample in data.samples) == objects_of(path)


def objects_of(path: Path) -> int:
    from tlvision.evaluation.read import read_ground_truth

    return sum(not row["iscrowd"] for row in read_ground_truth(path).annotations)


# What only the image files tell, and what leaves nothing to measure: an evaluation of two files need not refuse it.
FILES_ONLY = {name for name, _, _ in ERRORS if "file name" in name or "image is gone" in name or "width" in name}
FILES_ONLY |= {"another size", "all crowd", "no usable box", "no annotation"}


@pytest.mark.parametrize(("name", "change"), [case[:2] for case in ERRORS if case[0] not in FILES_ONLY])
def test_what_training_refuses_evaluation_refuses_too(
    tmp_path: Path, name: str, change: Callable[[Json], None]
) -> None:
    content = document()
    change(content)
    path = tmp_path / "val.json"
    path.write_text(json.dumps(content))
    with pytest.raises(InputError):
        measurable(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32", "utf-16-le"])
def test_other_encodings_are_read(images: Path, tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "train.json"
    path.write_text(json.dumps(document()), encoding=encoding)
    assert len(read_coco(path, images).samples) == 2
    assert measurable(path)


RAW: list[tuple[bytes, str]] = [
    (b"", "not valid JSON"),
    (b"{", "not valid JSON"),
    (b"\xff\xfe\x00", "not "),
    (b"\x80abc", "not a text file in UTF-8"),
    (b"[" * 100_000, "nested too deeply"),
    (b'{"a":' * 100_000, "nested too deeply"),
    (b'{"images": ' + b"9" * 5000 + b"}", "not a COCO json"),
    (b"null", "a bare NoneType"),
    (b'"text"', "a bare str"),
    (b"\0" * 100, "not "),
]


@pytest.mark.parametrize(("data", "words"), RAW, ids=[str(number) for number in range(len(RAW))])
def test_bytes_that_are_no_json(images: Path, tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words):
        read_coco(path, images)
    with pytest.raises(InputError):
        measurable(path)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.just(HUGE), st.floats(), st.text(max_size=4), st.just([]), st.just({})
)
PLACES = [
    *(f"annotations.{k}.{key}" for k in (0, 5) for key in ("id", "image_id", "category_id", "bbox", "area", "iscrowd")),
    *(f"annotations.0.bbox.{k}" for k in range(4)),
    "annotations.0.segmentation",
    *(f"images.1.{key}" for key in ("id", "file_name", "width", "height")),
    *(f"categories.0.{key}" for key in ("id", "name", "supercategory")),
    *("images", "annotations", "categories", "images.0", "annotations.0", "categories.0"),
]
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=3), inner))


def survives(images: Path, changes: list[tuple[str, Any]]) -> None:
    """Read a json with some values replaced, for training and evaluation: any outcome but an unforeseen exception."""
    content = document()
    for where, value in changes:
        try:
            put(where, value)(content)
        except (KeyError, IndexError, TypeError, AttributeError):
            continue  # an earlier change took the place away
    path = images.parent / "fuzz.json"
    path.write_text(json.dumps(content))
    for strict in (False, True):
        with suppress(TlvisionError):
            read_coco(path, images, require_masks=strict)
    with suppress(TlvisionError):
        measurable(path)


QUICK = settings(
    max_examples=10, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@QUICK
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=4))
def test_any_values_anywhere_give_a_sentence_at_worst(images: Path, changes: list[tuple[str, Any]]) -> None:
    survives(images, changes)


@pytest.mark.slow
@settings(QUICK, max_examples=1500, derandomize=False)
@given(st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=4))
def test_any_values_anywhere_give_a_sentence_at_worst_for_long(images: Path, changes: list[tuple[str, Any]]) -> None:
    survives(images, changes)
