"""Files that are no COCO json, or one of another form."""

from __future__ import annotations

import gzip
import json

from poison.dataset import HUGE, INF, NAN, NESTED, Case, coco, document, put, raw, read_boxes

_PNG = b"\x89PNG\r\n\x1a\n" + bytes(50)
BYTES: list[tuple[str, bytes, str]] = [
    ("empty", b"", "labels.json: not valid JSON at line 1, column 1"),
    ("spaces", b" \n" * 500, "labels.json: not valid JSON"),
    ("zeros", bytes(1000), "labels.json"),
    ("cut off in the middle", json.dumps(document()).encode()[:300], "labels.json: not valid JSON at line 1, column"),
    ("two documents", b"{}{}", "labels.json: not valid JSON at line 1, column 3"),
    ("a comment", b"{} // done", "labels.json: not valid JSON"),
    ("single quotes", b"{'images': []}", "labels.json: not valid JSON"),
    ("a page of a server", b"<!DOCTYPE html><title>404</title>", "labels.json: not valid JSON at line 1, column 1"),
    ("a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\nsize 9\n", "labels.json: not valid JSON"),
    ("a PNG", _PNG, "labels.json: not a text file in UTF-8"),
    ("gzip", gzip.compress(b"{}"), "is an archive, which is not read. Unpack it (gunzip -k labels.json) and give"),
    ("Latin-1", '{"images": "größe"}'.encode("latin-1"), "labels.json: not a text file in UTF-8"),
    ("a mark of UTF-16 alone", b"\xff\xfe", "labels.json"),
    ("a control character", b'{"images": "\x01"}', "labels.json: not valid JSON"),
    ("200,000 lists in each other", b"[" * 200_000, "labels.json: nested too deeply"),
    ("200,000 objects in each other", b'{"a":' * 200_000, "labels.json: nested too deeply"),
    ("a deep value", b'{"images": [{"id": ' + b"[" * 200_000, "labels.json: nested too deeply"),
    ("a number of 5,000 digits", b'{"images": [{"id": ' + b"9" * 5000 + b"}]}", "labels.json': not a COCO json"),
    ("NaN", b"NaN", "labels.json: a bare float, not a COCO dataset"),
    ("null", b"null", "labels.json: a bare NoneType"),
    ("a number", b"7", "labels.json: a bare int"),
    ("a text", b'"images"', "labels.json: a bare str"),
    ("an empty list", b"[]", "labels.json: a bare list"),
    ("an empty object", b"{}", "labels.json: not a COCO dataset, the key 'images' is missing"),
    ("images twice, the last one empty", b'{"images": [1], "images": [], "annotations": [], "categories": []}',
     "labels.json: 'images' is empty"),
    ("predictions", b'[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]',
     "labels.json: a list of COCO results (predictions)"),
    ("annotations alone", b'[{"image_id": 1, "bbox": [1, 2, 3, 4]}]', "labels.json: a bare list of annotations"),
    ("GeoJSON", b'{"type": "FeatureCollection", "features": []}', "labels.json: GeoJSON"),
    ("VIA", b'{"a.png123": {"regions": []}}', "labels.json: a VIA (VGG Image Annotator) file"),
]  # fmt: skip
EDITS: list[tuple[str, str, object, str]] = [
    ("images of one type", "images", ["a.png"], "labels.json: 'images' must be a list of objects"),
    ("images are a text", "images", "a.png", "labels.json: 'images' must be a list of objects"),
    ("images are 900 lists", "images", NESTED, "labels.json: 'images' must be a list of objects"),
    ("annotations by id", "annotations", {"1": {}}, "labels.json: 'annotations' must be a list of objects"),
    ("an annotation is null", "annotations.0", None, "labels.json: 'annotations' must be a list of objects"),
    ("categories by id", "categories", {"3": "bolt"}, "labels.json: 'categories' must be a list of objects"),
    ("categories of numbers", "categories", [3, 90], "labels.json: 'categories' must be a list of objects"),
    ("an image without id", "images.1", {"file_name": "b.png"}, "labels.json: image number 2 has 'id' None"),
    ("an image id of 70 bits", "images.1.id", 2**70, "labels.json: image number 2 has 'id' 1180591620717411303424"),
    ("an image id of 400 digits", "images.1.id", HUGE, "labels.json: image number 2 has 'id' 1000"),
    ("an image id that is infinite", "images.1.id", INF, "labels.json: image number 2 has 'id' inf"),
    ("an image id of 900 lists", "images.1.id", NESTED, "labels.json: image number 2 has 'id' "),
    ("a category id of 70 bits", "categories.1.id", -(2**70), "labels.json: category number 2 has 'id' -118"),
    ("a category id that is nan", "categories.1.id", NAN, "labels.json: category number 2 has 'id' nan"),
    ("a category name of 900 lists", "categories.1.name", NESTED, "labels.json, category 90: 'name' must be a text"),
    ("a category name of 100,000 characters", "categories.1.name", "nut" * 33_334,
     "a class name of 100,002 characters: 'nutnut"),
    ("a category name with an escape", "categories.1.name", "nut\x1b[2J", "control characters in the class name 'nut"),
    ("a category name of half a character", "categories.1.name", "\ud83d", "labels.json, category 90: half of a"),
    ("a file name of 900 lists", "images.1.file_name", NESTED, "labels.json, image 2: 'file_name' must be a text"),
    ("a file name of 100,000 characters", "images.1.file_name", "b" * 100_000, "labels.json, image 2: the file name"),
    ("a file name of 300 characters", "images.1.file_name", "b" * 300, "' cannot be read as an image"),
    ("a width of 900 lists", "images.1.width", NESTED, "labels.json, image 2: width and height must be positive"),
    ("a width of 400 digits", "images.1.width", HUGE, "b.png is 40 x 24 but the json says 1000"),
    ("a negative height", "images.1.height", -24, "labels.json, image 2: width and height must be positive"),
]  # fmt: skip
CASES = [Case(name, raw(data), read_boxes, words) for name, data, words in BYTES]
CASES += [Case(name, coco(put(where, value)), read_boxes, words) for name, where, value, words in EDITS]
