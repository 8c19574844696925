"""Whatever people give to predict: it is predicted, or named with what to do; nothing is left out without a word."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tlvision
from tlvision.engine.model import LoadedModel
from tlvision.types import InputError

TL = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def model(small_run: Path) -> LoadedModel:
    return tlvision.load(small_run)


@pytest.fixture
def picture(tiny_dataset: Path) -> Path:
    return tiny_dataset / "images" / "001.png"


def rows(out: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads((out / "predictions.json").read_text())
    return found


def test_folders_below_are_taken_and_names_stay_apart(small_run: Path, picture: Path, tmp_path: Path, tl: TL) -> None:
    nested = tmp_path / "nested"
    for name in ("day1/cam.png", "day2/cam.png", "day2/cam.bmp", "top.PNG"):
        (nested / name).parent.mkdir(parents=True, exist_ok=True)
        Image.open(picture).save(nested / name)
    (nested / "notes.txt").write_text("x")
    out = tmp_path / "out"
    code, text = tl("predict", "--run", small_run, nested, "--output", out, "--min-score", "0")
    assert code == 0, text
    assert "1 file in the folders not of a known image type, left out: notes.txt" in text
    pictures = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.jpg"))
    assert pictures == ["day1/cam.jpg", "day2/cam_bmp.jpg", "day2/cam_png.jpg", "top.jpg"]
    assert {row["file_name"] for row in rows(out)} == {"day1/cam.png", "day2/cam.bmp", "day2/cam.png", "top.PNG"}
    both = tmp_path / "both"
    assert (
        tl("predict", "--run", small_run, nested / "day1", nested / "day2", "--output", both, "--min-score", "0")[0]
        == 0
    )
    assert {row["file_name"] for row in rows(both)} == {"day1/cam.png", "day2/cam.bmp", "day2/cam.png"}


def test_a_broken_file_does_not_cost_the_folder(small_run: Path, picture: Path, tmp_path: Path, tl: TL) -> None:
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for name in ("a.png", "c.png"):
        shutil.copyfile(picture, mixed / name)
    (mixed / "zero.png").write_bytes(b"")
    (mixed / "b.png").write_bytes(picture.read_bytes()[:-200])  # its header is whole
    out = tmp_path / "out"
    code, text = tl("predict", "--run", small_run, mixed, "--output", out, "--min-score", "0")
    assert code == 0, text
    assert text.count("not predicted") == 2
    assert "b.png" in text
    assert "zero.png" in text
    assert {row["file_name"] for row in rows(out)} == {"a.png", "c.png"}
    code, text = tl("predict", "--run", small_run, mixed / "b.png", mixed / "zero.png", "--output", tmp_path / "none")
    assert (code, "none of 2 inputs can be read" in text) == (2, True), text


REFUSED = [
    ("clip.avi", "cannot be opened as a video"),
    ("photo.heic", "convert an image to PNG or JPEG"),
    ("anim.gif", "convert an image to PNG or JPEG"),
    ("https://example.com/a.jpg", "is an address. Set --allow-download to download it"),
    ("ftp://example.com/a.jpg", "is an address. Set --allow-download to download it"),
    ("0", "A camera cannot be read"),
    ("gone/*.png", "no file matches"),
    ("gone", "no file or folder 'gone'"),
    ("a\0b", "no file or folder"),
]


@pytest.mark.parametrize("case", REFUSED, ids=[str(number) for number in range(len(REFUSED))])
def test_what_is_no_image_is_refused_with_the_way_out(
    small_run: Path, tmp_path: Path, tl: TL, monkeypatch: pytest.MonkeyPatch, case: tuple[str, str]
) -> None:
    given, words = case
    monkeypatch.chdir(tmp_path)
    for name in ("clip.avi", "photo.heic", "anim.gif"):
        (tmp_path / name).write_bytes(b"x")
    code, text = tl("predict", "--run", small_run, given, "--output", tmp_path / "out")
    assert (code, words in text) == (2, True), text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["nan", "-0.1", "1.5", "inf"])
def test_scores_outside_their_range(small_run: Path, picture: Path, tmp_path: Path, tl: TL, flag: str) -> None:
    code, text = tl("predict", "--run", small_run, picture, "--output", tmp_path / "out", f"--min-score={flag}")
    assert (code, "--min-score must be a number from 0 to 1" in text) == (2, True), text


def test_python_the_command_line_and_evaluation_give_the_same_boxes(
    small_run: Path, model: LoadedModel, tmp_path: Path, tl: TL
) -> None:
    big = tmp_path / "big"
    big.mkdir()
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 60, (480, 640, 3)).astype(np.uint8)
    grey[100:300, 200:420] = (90, 90, 200)
    Image.fromarray(grey).save(big / "a.jpg", quality=95)  # five times the network input: decoded at reduced size
    assert tl("predict", "--run", small_run, big, "--output", tmp_path / "out", "--min-score", "0")[0] == 0
    command_line = [row["bbox"] for row in rows(tmp_path / "out")]
    boxes = model.predict(big / "a.jpg", min_score=0).boxes
    assert len(boxes) == len(command_line) > 0
    boxes[:, 2:] -= boxes[:, :2]
    assert np.abs(boxes - np.array(command_line)).max() < 1e-3
    categories = [{"id": i, "name": name} for i, name in zip((3, 90), ("dark", "light"), strict=True)]
    truth = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 3, "bbox": [200, 100, 220, 200]}],
        "categories": categories,
    }
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    run = shutil.copytree(small_run, tmp_path / "run")
    assert tl("evaluate", "--run", run, "--json", tmp_path / "gt.json", "--images", big)[0] == 0
    evaluated = [row["bbox"] for row in json.loads((run / "evaluations/gt/predictions.json").read_text())]
    assert np.abs(np.array(evaluated) - np.array(command_line)).max() < 1e-3


def test_python_takes_any_image(model: LoadedModel, picture: Path) -> None:
    stored = Image.open(picture)
    array = np.asarray(stored.convert("RGB"))
    expected = model.predict(array, min_score=0).boxes
    assert len(expected)
    same = [str(picture), picture, stored, array.astype(np.float32) / 255, np.dstack([array, array[..., :1]])]
    for image in [*same, array[:, ::-1][:, ::-1]]:
        assert np.abs(model.predict(image, min_score=0).boxes - expected).max() < 1e-3
    grey = np.asarray(stored.convert("L"))
    assert np.array_equal(model.predict(grey, min_score=0).boxes, model.predict(grey[..., None], min_score=0).boxes)
    for several in ([picture, array], (picture, array), np.stack([array, array])):
        found = model.predict(several)
        assert [type(each).__name__ for each in found] == ["Prediction", "Prediction"]
    scores = model.predict(picture, min_score=0.05, device="cpu").scores
    assert (scores >= 0.05).all()
    assert repr(model).count("\n") == 2


WRONG = [
    (b"bytes", "expected the path of an image"),
    (np.zeros((3, 4, 5, 6, 7)), "expected an array"),
    (np.zeros((4, 4, 2), np.uint8), "expected an array"),
    (np.zeros((0, 4, 3), np.uint8), "expected an array"),
    (np.full((4, 4, 3), 200.0), "must hold 0..1"),
    (np.full((4, 4, 3), np.nan), "must hold 0..1"),
    (np.zeros((4, 4, 3), np.int64), "expected an array of uint8"),
    ("gone.png", "does not exist"),
]


@pytest.mark.parametrize(("image", "words"), WRONG, ids=[words for _, words in WRONG])
def test_python_refuses_what_it_cannot_read(model: LoadedModel, image: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        model.predict(image)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("asked", "counts", "task", "given", "spec"),
    [
        (None, 100, "detect", 300, None),
        (None, 120, "detect", 300, None),  # of one class; the model's limit is of all
        (None, 10, "detect", 300, None),
        (None, 500, "detect", 500, 500),
        (None, 120, "instance", 120, 120),
        (50, 120, "detect", 50, 50),
    ],
)
def test_what_an_evaluation_counts_never_lowers_what_a_model_gives(  # noqa: PLR0917
    model: LoadedModel, asked: int | None, counts: int, task: str, given: int, spec: int | None
) -> None:
    from tlvision.engine.limits import model_limit, objects_given
    from tlvision.tasks import get_task

    settings = model.config.model.model_copy(update={"max_detections": asked})
    evaluate = model.config.evaluate.model_copy(update={"max_detections": counts})
    config = model.config.model_copy(update={"model": settings, "evaluate": evaluate})
    chosen = get_task(task)
    assert (objects_given(config, chosen), model_limit(config, chosen)) == (given, spec)


def test_python_refuses_other_arguments(model: LoadedModel, picture: Path, small_run: Path) -> None:
    with pytest.raises(InputError, match="min_score"):
        model.predict(picture, min_score=float("nan"))
    with pytest.raises(InputError, match="device"):
        model.predict(picture, device="tpu")
    with pytest.raises(InputError, match="max-detections"):
        tlvision.load(small_run, max_detections=0)
    assert len(tlvision.load(small_run, max_detections=5).predict(picture, min_score=0)) <= 5
