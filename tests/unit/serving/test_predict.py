"""The answers of a server are the predictions of its bundle, in the forms of COCO."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask

import tlvision.runtime
from hand_made_bundles import CLASSES, write_detector, write_segmenter
from live_server import Running, SlowModel, as_json, picture, wait_for
from tlvision.data.merge_tiles import TilePrediction, merge_tiles
from tlvision.data.settings import TileSettings
from tlvision.runtime import RuntimeModel
from tlvision.runtime.bundle import read_bundle, write_bundle
from tlvision.serving.service import PredictedImage
from tlvision.serving.settings import ServerSettings
from tlvision.types import Prediction

Start = Callable[..., Running]


def objects_of(found: Prediction) -> list[dict[str, Any]]:
    """Return what an answer should have, from the prediction alone."""
    x0, y0, x1, y1 = found.boxes.T
    boxes = np.stack([x0, y0, x1 - x0, y1 - y0], axis=1)
    return [
        {
            "category": CLASSES.names[label],
            "category_id": CLASSES.source_ids[label],
            "score": score,
            "bbox": box,
        }
        for label, score, box in zip(found.labels.tolist(), found.scores.tolist(), boxes.tolist(), strict=True)
    ]


def numbers_of(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the objects of an answer, with numbers in the precision of the model."""
    return [
        {
            **found,
            "score": float(np.float32(found["score"])),
            "bbox": [float(np.float32(number)) for number in found["bbox"]],
        }
        for found in answer["objects"]
    ]


def image_files() -> dict[str, bytes]:
    """Return files of all formats and kinds, larger than the network input."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (90, 130, 3)).astype(np.uint8)
    pixels[..., 0] |= 128
    files = {}
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "BMP"):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, kind)
        files[kind.lower()] = file.getvalue()
    rotated = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(rotated, "JPEG", exif=exif)
    files["rotated"] = rotated.getvalue()
    for name, image in {
        "rgba": np.dstack([pixels, pixels[..., 0]]),
        "grey": pixels[..., 0],
        "deep": pixels[..., ::-1].astype(np.uint16) * 257,
    }.items():
        files[name] = cv2.imencode(".png", image)[1].tobytes()
    return files


FILES = image_files()


@pytest.mark.parametrize("name", FILES)
def test_an_answer_is_the_prediction_for_the_file(
    name: str, running: Running, detector: RuntimeModel, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(FILES[name])
    wanted = detector.predict(tmp_path / name)
    assert len(wanted) >= 1
    answer = running.client.post("/predict", files={"images": (name, FILES[name])}).json()
    (image,) = answer["images"]
    assert numbers_of(image) == objects_of(wanted)
    assert (image["name"], answer["model"]) == (name, "colours")
    assert (image["width"], image["height"]) == ((90, 130) if name == "rotated" else (130, 90))
    assert running.predict(FILES[name]).json()["images"] == [{**image, "name": "image 1"}]


def test_several_images_are_answered_in_their_order(running: Running) -> None:
    reds = [200, 240, 120, 220]
    files = [("images", (f"{red}.png", picture(red))) for red in reds]
    found = running.client.post("/predict", files=files).json()["images"]
    assert [image["name"] for image in found] == [f"{red}.png" for red in reds]
    assert [round(255 * image["objects"][0]["score"]) for image in found] == reds
    assert [
        round(255 * image["objects"][0]["score"]) for image in running.predict(*map(picture, reds)).json()["images"]
    ] == reds


def test_min_score_replaces_the_thresholds(running: Running) -> None:
    def categories(**request: Any) -> list[str]:
        return [
            found["category"] for found in running.client.post("/predict", **request).json()["images"][0]["objects"]
        ]

    file = {"files": {"images": ("a.png", picture(200))}}
    assert categories(**file) == ["red"]  # 0.78, green has 0.08
    assert categories(**file, data={"min_score": "0.05"}) == ["red", "green"]
    assert categories(**file, data={"min_score": "0.9"}) == []
    assert categories(json=as_json(picture(200), min_score=0.05)) == ["red", "green"]


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
def test_masks_are_run_lengths_of_coco(start: Start, tmp_path: Path) -> None:
    model = tlvision.runtime.load(write_detector(tmp_path / "bundle", masks=True), threads=1)
    wanted = model.predict(Image.open(io.BytesIO(picture(200))))
    assert wanted.masks is not None
    (image,) = start(model=model).predict(picture(200)).json()["images"]
    (found,) = image["objects"]
    mask = coco_mask.decode(found["segmentation"])
    assert mask.sum() == 24 * 12
    assert np.array_equal(mask, wanted.masks[0])


def test_a_label_map_is_a_png_of_class_indices(start: Start, tmp_path: Path) -> None:
    model = tlvision.runtime.load(write_segmenter(tmp_path / "bundle"), threads=1)
    pixels = np.zeros((24, 48, 3), np.uint8)
    pixels[:, :30, 0] = pixels[:, 30:, 2] = 200
    (image,) = start(model=model).predict(cv2.imencode(".png", pixels[..., ::-1])[1].tobytes()).json()["images"]
    labels = np.asarray(Image.open(io.BytesIO(base64.b64decode(image["label_map"]["png"]))))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, np.where(np.arange(48) < 30, 0, 2) * np.ones((24, 1)))
    assert image["objects"] == []
    assert image["label_map"]["classes"] == [
        {"value": 0, "category": "red", "category_id": 7, "pixels": 24 * 30},
        {"value": 2, "category": "blue", "category_id": 90, "pixels": 24 * 18},
    ]


def test_large_images_are_cut_into_the_tiles_of_the_bundle(start: Start, tmp_path: Path) -> None:
    folder = write_detector(tmp_path / "bundle")
    write_bundle(folder, replace(read_bundle(folder), tiles=TileSettings(size=40)))
    model = tlvision.runtime.load(folder, threads=1)
    (tmp_path / "a.jpg").write_bytes(FILES["jpeg"])
    wanted = model.predict(tmp_path / "a.jpg")
    assert len(wanted) > 3
    running = start(model=model)
    (image,) = running.predict(FILES["jpeg"]).json()["images"]
    assert running.predict(FILES["jpeg"][:900]).status_code == 422
    assert numbers_of(image) == objects_of(wanted)


def test_requests_share_batches(start: Start, slow: SlowModel) -> None:
    running = start(ServerSettings(batch=4), model=slow)
    reds = [130, 140, 150, 160, 170]
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(running.predict, picture(red)) for red in reds]
        wait_for(lambda: running.number("tlvision_waiting_images") == 5)
        slow.may_go.set()
        scores = [future.result().json()["images"][0]["objects"][0]["score"] for future in answers]
    assert [round(255 * score) for score in scores] == reds
    assert sum(slow.sizes) == 5
    assert max(slow.sizes) > 1


def test_every_predicted_image_is_observed(start: Start) -> None:
    seen: list[PredictedImage] = []

    def observe(predicted: PredictedImage) -> None:
        seen.append(predicted)
        raise OSError("the disk is full")  # changes no answer

    running = start(observe=observe)
    files = [("images", ("a.png", picture(200))), ("images", ("b.png", picture(250)))]
    answer = running.client.post("/predict", files=files, data={"min_score": "0.9"})
    assert [len(image["objects"]) for image in answer.json()["images"]] == [0, 1]
    found = sorted(seen, key=lambda predicted: predicted.name)
    assert [predicted.name for predicted in found] == ["a.png", "b.png"]
    assert [len(predicted.prediction) for predicted in found] == [1, 1]  # by the thresholds of the bundle
    assert [(predicted.image.sample.width, predicted.image.content.pixels.shape) for predicted in found] == [
        (48, (16, 32, 3))
    ] * 2


def test_the_floats_of_an_answer_are_the_shortest_that_hold_the_number(running: Running) -> None:
    text = running.predict(picture(200)).text
    score = json.loads(text)["images"][0]["objects"][0]["score"]
    assert f'"score":{np.format_float_positional(np.float32(score), unique=True, trim="-")}' in text


def test_an_image_does_not_get_the_floor_of_another_request(start: Start, slow: SlowModel) -> None:
    """Objects below the floor can change what is above it where tiles are merged (see below)."""
    running = start(ServerSettings(batch=4, batch_delay=0.5), model=slow)
    with ThreadPoolExecutor(3) as pool:
        scores = (0.05, None, 0.9)
        answers = [pool.submit(running.predict, picture(200), min_score=score) for score in scores]
        wait_for(lambda: running.number("tlvision_waiting_images") == 3)
        slow.may_go.set()
        assert [len(answer.result().json()["images"][0]["objects"]) for answer in answers] == [2, 1, 0]
    assert sorted(zip(slow.floors, slow.sizes, strict=True)) == [(0.05, 1), (pytest.approx(0.4), 2)]
    assert running.number("tlvision_batch_images_count") == 1


def test_the_floor_changes_the_merge_of_tiles() -> None:
    """The reason for the test above: a whole object with a low score outlives its cut part with a high one."""

    def merged(floor: float) -> list[float]:
        parts = [((0, 0, 100, 100), [70, 20, 100, 50], 0.9), ((70, 0, 170, 100), [3, 20, 45, 50], 0.2)]
        tiles = [
            TilePrediction(
                window,
                Prediction(
                    boxes=np.array([box], np.float32), scores=np.array([score], np.float32), labels=np.array([0])
                ).above(floor),
            )
            for window, box, score in parts
        ]
        return merge_tiles(tiles, (100, 170), TileSettings(size=100, overlap=0.3), 100).above(0.4).scores.tolist()

    assert (merged(0.0), len(merged(0.4))) == ([], 1)
