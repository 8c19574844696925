"""Labels of tools with one fault each: YOLO, Pascal VOC, LabelMe, CVAT, Label Studio, Open Images, Roboflow."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from poison.dataset import HUGE, INF, NAN, Build, Case, convert, document, images

BOMB = "&a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{one}: &{one} [*{two},*{two},*{two},*{two},*{two},*{two},*{two},*{two},*{two},*{two}]\n"
    for two, one in zip("abcdefgh", "bcdefghi", strict=True)
)
"""A YAML of 600 bytes that is a text of 10^9 characters once its names are written out."""


def yolo(name: str, content: str) -> Build:
    """Return a builder of a YOLO dataset in which one file has another content."""

    def build(folder: Path) -> None:
        labels = folder / "labels"
        for part in ("images", "labels"):
            (labels / part).mkdir(parents=True)
        images(folder).rename(labels / "images" / "train")
        (folder / "images").mkdir()
        (labels / "labels" / "train").mkdir()
        files = {
            "data.yaml": "names: [bolt, nut]\ntrain: images/train\n",
            "labels/train/a.txt": "0 0.5 0.5 0.2 0.2\n",
            "labels/train/b.txt": "1 0.1 0.1 0.4 0.1 0.4 0.4\n",
            name: content,
        }
        for path, text in files.items():
            (labels / path).write_text(text, encoding="utf-8")

    return build


A = "labels/train/a.txt"
YOLO: list[tuple[str, str, str, str]] = [
    ("a class that is infinite", A, "1e400 0.5 0.5 0.1 0.1", "a.txt, line 1: class 1e400, but there are 2 classes"),
    ("a class that is nan", A, "nan 0.5 0.5 0.1 0.1", "a.txt, line 1: class nan, but there are 2 classes"),
    ("a class of 5,000 digits", A, "9" * 5000 + " 0.5 0.5 0.1 0.1", "a.txt, line 1: class 999"),
    ("half a class", A, "0.5 0.5 0.5 0.1 0.1", "a.txt, line 1: class 0.5, but there are 2 classes"),
    ("infinity in a box", A, "\n\n0 inf 0.5 0.1 0.1", "a.txt, line 3: inf is not from 0 to 1"),
    ("pixels", A, "0 20 12 8 6", "a.txt, line 1: 20 is not from 0 to 1"),
    ("a line of 100,000 words", A, "x " * 100_000, "a.txt, line 1: expected numbers, got 'x x x"),
    ("a byte of no text", A, "0 \0", "a.txt' is not a text file (byte 2 is NUL)"),
    ("names that expand to 10^9 characters", "data.yaml", f"a: {BOMB}names: [*i]\ntrain: images/train\n",
     "data.yaml: names: expected a list of class names, got "),
    ("names in 1,000 lists", "data.yaml", "names: " + "[" * 1000, "data.yaml: nested too deeply"),
    ("a date that is none", "data.yaml", "names: [2001-99-99]\n", "data.yaml: not YAML"),
    ("names by text and number", "data.yaml", "names: {0: a, x: b}\ntrain: images/train\n",
     "data.yaml: names: expected the numbers 0 to 1, got "),
    ("a name twice", "data.yaml", "names: [a, a]\ntrain: images/train\n", "data.yaml: names: 'a' is given twice"),
    ("a blank name", "data.yaml", "names: [a, ' ']\ntrain: images/train\n", "an empty class name was given"),
    ("a name of 5,000 characters", "data.yaml", f"names: [a, {'b' * 5000}]\ntrain: images/train\n",
     "a class name of 5,000 characters"),
    ("a folder of 5,000 characters", "data.yaml", f"names: [a, b]\ntrain: {'x' * 5000}\n",
     "data.yaml: train: expected a folder, got 'xxx"),
    ("a folder that is a number", "data.yaml", "names: [a, b]\ntrain: 7\n", "data.yaml: train: expected a folder, got"),
    ("a root that is a list", "data.yaml", "names: [a, b]\ntrain: images/train\npath: [1]\n",
     "data.yaml: path: expected a folder, got [1]"),
    ("a tag of Python", "data.yaml", "names: !!python/object/apply:os.system ['true']\n", "data.yaml: not YAML"),
]  # fmt: skip


def one_file(name: str, content: str | bytes) -> Build:
    """Return a builder with the two images and one file of labels."""

    def build(folder: Path) -> None:
        images(folder)
        (folder / "labels").mkdir()
        data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
        (folder / "labels" / name).write_bytes(data)

    return build


def voc(old: str, new: str) -> Build:
    """Return a builder of a Pascal VOC file with a replaced part."""
    text = (
        "<annotation><filename>a.png</filename><size><width>40</width><height>24</height></size><object><name>bolt"
        "</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object></annotation>"
    )
    assert old in text
    return one_file("0.xml", text.replace(old, new))


VOC: list[tuple[str, str, str, str]] = [
    ("nan", "<xmin>3<", "<xmin>nan<", "0.xml, object 'bolt': xmin: expected a number, got 'nan'"),
    ("1e308", "<xmax>9<", "<xmax>1e308<", "0.xml, object 'bolt': xmax: expected a number, got '1e308'"),
    ("100,000 digits", "<xmax>9<", f"<xmax>{'9' * 100_000}<", "0.xml, object 'bolt': xmax: expected a number"),
    ("a width of infinity", "<width>40<", "<width>inf<", "0.xml: width: expected a number, got 'inf'"),
    ("entities that expand", "<annotation>", '<!DOCTYPE a [<!ENTITY b "bb">]><annotation>', "0.xml: declares a"),
    ("an external entity", "<annotation>", '<!DOCTYPE a SYSTEM "/etc/passwd"><annotation>', "0.xml: declares a"),
    ("an image elsewhere", "a.png", "../../../etc/passwd.png", "0.xml: image '0' is not in"),
    ("an image of 100,000 folders", "a.png", "x/" * 100_000 + "c.png", "0.xml: image '0' is not in"),
    ("elements that do not end", "</annotation>", "", "0.xml: not xml"),
    ("no box", "bndbox", "box", "0.xml: object 'bolt' has no bndbox"),
    ("a name of 5,000 characters", ">bolt\n".strip(), ">" + "b" * 5000, "a class name of 5,000 characters"),
]


def labelme(edit: Callable[[dict[str, Any]], object]) -> Build:
    """Return a builder of a LabelMe file with an edit."""
    shape = {"label": "bolt", "points": [[2, 2], [9, 2], [9, 9]], "shape_type": "polygon", "group_id": None}
    content = {"shapes": [shape], "imagePath": "a.png", "imageWidth": 40, "imageHeight": 24}
    edit(content)
    return one_file("a.json", json.dumps(content))


def points(value: object) -> Build:
    return labelme(lambda content: content["shapes"][0].update(points=value))


LABELME: list[tuple[str, Build, str]] = [
    ("a width of text", labelme(lambda c: c.update(imageWidth="x")), "a.json: imageWidth: expected a whole number"),
    ("a width of nan", labelme(lambda c: c.update(imageWidth=NAN)), "a.json: imageWidth: expected a whole number"),
    ("a width of 400 digits", labelme(lambda c: c.update(imageWidth=HUGE)), "a.json: the labels are of an image of 1"),
    ("a width of lists", labelme(lambda c: c.update(imageWidth=[[]])), "a.json: imageWidth: expected a whole number"),
    ("an image of 5,000 folders", labelme(lambda c: c.update(imagePath="x/" * 5000)), "a.json: the name of an image"),
    ("an image elsewhere", labelme(lambda c: c.update(imagePath="../../x.png")), "a.json: image '../../x.png' is not"),
    ("shapes by name", labelme(lambda c: c.update(shapes={})), "a.json: shapes: expected a list"),
    ("a shape that is null", labelme(lambda c: c.update(shapes=[None])), "a.json, shape 0: has no label"),
    ("400 digits", points([[2, 2], [HUGE, 2], [9, 9]]), "a.json, shape 0: points: expected pairs of numbers"),
    ("1e308", points([[2, 2], [1e308, 2], [9, 9]]), "a.json, shape 0: points: expected finite numbers"),
    ("nan", points([[2, 2], [NAN, 2], [9, 9]]), "a.json, shape 0: points: expected finite numbers"),
    ("points that are null", points(None), "a.json, shape 0: points: expected pairs of numbers"),
    ("a polygon of two points", points([[2, 2], [9, 2]]), "a.json, shape 0: a polygon with 2 points; it needs 3"),
    ("100,000 lists", one_file("a.json", "[" * 100_000), "a.json: nested too deeply"),
]


def cvat(old: str, new: str) -> Build:
    """Return a builder of a CVAT file with a replaced part."""
    text = (
        '<annotations><image id="0" name="a.png" width="40" height="24"><box label="bolt" xtl="3" ytl="3" xbr="9" '
        'ybr="9"/><polygon label="nut" points="1,1;9,1;9,9"/><mask label="bolt" rle="2, 2, 2" left="1" top="1" '
        'width="2" height="3"/></image></annotations>'
    )
    assert old in text
    return one_file("export.xml", text.replace(old, new))


MASK = "export.xml, image 'a.png', mask 'bolt': rle: "
CVAT: list[tuple[str, str, str, str]] = [
    ("nan in a polygon", "9,1;", "nan,1;", "image 'a.png', polygon 'nut': points: expected three or more pairs"),
    ("1e308 in a polygon", "9,1;", "1e308,1;", "image 'a.png', polygon 'nut': points: expected three or more pairs"),
    ("100,000 texts in a polygon", "9,1;", "x,1;" * 100_000, "image 'a.png', polygon 'nut': points: expected three"),
    ("a rotation of nan", 'ybr="9"', 'ybr="9" rotation="nan"', "box 'bolt': rotation: expected a number, got 'nan'"),
    ("a mask of 10^9 pixels", '2" height="3"', '100000" height="10000"', f"{MASK}6 pixels for a box of 100000 x"),
    ("a mask of negative size", '2" height="3"', '-2" height="-3"', f"{MASK}6 pixels for a box of -2 x -3"),
    ("a mask outside", 'left="1"', 'left="39"', f"{MASK}6 pixels for a box of 2 x 3 at 39, 1"),
    ("run lengths too long", "2, 2, 2", "2, 2, 99999999999", f"{MASK}100000000003 pixels for a box of 2 x 3"),
    ("negative run lengths", "2, 2, 2", "8, -4, 2", f"{MASK}6 pixels for a box of 2 x 3"),
    ("run lengths of 5,000 digits", "2, 2, 2", "9" * 5000, f"{MASK}expected whole numbers, got '999"),
    ("run lengths of letters", "2, 2, 2", "2, ², 2", f"{MASK}expected whole numbers, got '2, ², 2'"),
    (
        "a name of 5,000 characters",
        'name="a.png"',
        f'name="{"x" * 5000}"',
        "export.xml: the name of an image has 5,000",
    ),
    ("no image", "image", "picture", "export.xml: has no image"),
]


def studio(edit: Callable[[dict[str, Any]], object]) -> Build:
    """Return a builder of an export of Label Studio with an edit of its first task."""
    value = {"x": 10, "y": 10, "width": 20, "height": 20, "rectanglelabels": ["bolt"]}
    row = {"type": "rectanglelabels", "value": value, "original_width": 40, "original_height": 24}
    task: dict[str, Any] = {"id": 7, "data": {"image": "a.png"}, "annotations": [{"result": [row]}]}
    edit(task)
    return one_file("export.json", json.dumps([task]))


def result(**values: object) -> Build:
    return studio(lambda task: task["annotations"][0]["result"][0]["value"].update(values))


TASK = "export.json, task 7: "
STUDIO: list[tuple[str, Build, str]] = [
    ("an annotation that is a text", studio(lambda t: t.update(annotations=["x"])), f"{TASK}annotations: expected a"),
    ("annotations by id", studio(lambda t: t.update(annotations={})), f"{TASK}expected 'data' and 'annotations'"),
    ("a result that is a number", studio(lambda t: t["annotations"][0].update(result=7)), f"{TASK}result: expected a"),
    ("a result of null", studio(lambda t: t["annotations"][0].update(result=[None])), f"{TASK}result: expected a list"),
    ("labels that are a number", result(rectanglelabels=7), f"{TASK}a result of type 'rectanglelabels' has 0 labels"),
    ("no label", result(rectanglelabels=[]), f"{TASK}a result of type 'rectanglelabels' has 0 labels"),
    ("400 digits", result(x=HUGE), f"{TASK}a result of type 'rectanglelabels' lacks numbers"),
    ("infinity", result(width=INF), f"{TASK}'bolt': expected finite numbers"),
    ("a rotation of 1e308", result(rotation=1e308, height=1e307), f"{TASK}'bolt': expected finite numbers"),
    ("an image elsewhere", studio(lambda t: t.update(data={"image": "/data/../../x.png"})), f"{TASK}image '/data/.."),
    ("an image of 1,000,000 characters", studio(lambda t: t.update(data={"image": "x/" * 500_000 + "a.b"})),
     f"{TASK}the name of an image has 1,000,003 characters"),
    ("no image", studio(lambda t: t.update(data={})), f"{TASK}data names no image"),
    ("a width of text", studio(lambda t: t["annotations"][0]["result"][0].update(original_width="x")),
     f"{TASK}original_width and original_height: expected numbers, got ('x', 24)"),
]  # fmt: skip


def open_images(old: str, new: str) -> Build:
    """Return a builder of a csv of Open Images with a replaced part."""
    text = "ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf\na,/m/1,0.1,0.5,0.1,0.5,0\n"
    assert old in text
    return one_file("export.csv", text.replace(old, new))


OPEN: list[tuple[str, str, str, str]] = [
    ("nan", "0.1,0.5,0.1", "nan,0.5,0.1", "export.csv, line 2: expected XMin, YMin, XMax and YMax from 0 to 1"),
    ("a field of 200,000 characters", "/m/1", "x" * 200_000, "export.csv: no csv file that can be read"),
    ("a row that breaks off", "0.1,0.5,0.1,0.5,0", "0.1", "export.csv, line 2: expected XMin, YMin, XMax and YMax"),
    ("no header", "ImageID", "a", "export.csv: expected the columns ImageID, LabelName"),
    ("no image", "a,/m", "zzz,/m", "export.csv: none of its images is in"),
    ("no label", "/m/1", "", "export.csv, line 2: LabelName is empty"),
]


def roboflow(**values: object) -> Build:
    """Return a builder of an export of Roboflow whose COCO json has other values."""

    def build(folder: Path) -> None:
        (folder / "labels" / "train").mkdir(parents=True)
        images(folder)
        for path in (folder / "images").iterdir():
            path.rename(folder / "labels" / "train" / path.name)
        text = json.dumps({**document(), **values})
        (folder / "labels" / "train" / "_annotations.coco.json").write_text(text)

    return build


ROBOFLOW: list[tuple[str, Build, str]] = [
    (
        "images elsewhere",
        roboflow(images=[{"id": 1, "file_name": "../../a.png"}]),
        "image 1: the file name '../../a.png",
    ),
    ("no categories", roboflow(categories=[]), "_annotations.coco.json: 'categories' is empty"),
    (
        "two objects of one id",
        roboflow(annotations=[document()["annotations"][0]] * 2),
        "_annotations.coco.json: duplicate annotation id 1",
    ),
]
CASES = [Case(f"YOLO: {name}", yolo(file, text), convert, words) for name, file, text, words in YOLO]
CASES += [Case(f"Pascal VOC: {name}", voc(old, new), convert, words) for name, old, new, words in VOC]
CASES += [Case(f"LabelMe: {name}", build, convert, words) for name, build, words in LABELME]
CASES += [Case(f"CVAT: {name}", cvat(old, new), convert, words) for name, old, new, words in CVAT]
CASES += [Case(f"Label Studio: {name}", build, convert, words) for name, build, words in STUDIO]
CASES += [Case(f"Open Images: {name}", open_images(old, new), convert, words) for name, old, new, words in OPEN]
CASES += [Case(f"Roboflow: {name}", build, convert, words) for name, build, words in ROBOFLOW]
CASES += [
    Case("YOLO: labels without an image", yolo("labels/train/c.txt", ""), convert, "1 label files without an image",
         noted=True),
    Case("CVAT: points", cvat("<polygon", '<points label="nut" points="1,1"/><polygon'), convert,
         "1 shapes of type 'points' left out: export.xml, image 'a.png', points 'nut'", noted=True),
    Case("LabelMe: a line", labelme(lambda c: c["shapes"][0].update(shape_type="line")), convert,
         "1 shapes of type 'line' left out: a.json, shape 0", noted=True),
    Case("Open Images: an image without a row", open_images("a,/m", "a,/m"), convert,
         "1 images without a row, which may have objects: b.png", noted=True),
]  # fmt: skip
