"""`tlvision explain`: pictures, explain.json, sentences, the sanity check, and what a user may get wrong."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tlvision.analysis.saliency import explain, sanity
from tlvision.analysis.saliency.explain import ExplainSettings, explain_images
from tlvision.analysis.saliency.methods import Method
from tlvision.cli.main import main
from tlvision.engine.model import load
from tlvision.report.heat import draw_heat, viridis

WARNING = "hardly changes when the weights are random"


@pytest.fixture(scope="module")
def run(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model, after one epoch, is sure of nothing: every detection counts."""
    folder = tmp_path_factory.mktemp("explained") / "run"
    shutil.copytree(small_run, folder)
    (folder / "thresholds.json").write_text(json.dumps({"default": 0.0, "per_class": {}}))
    return folder


@pytest.fixture
def images(tiny_dataset: Path) -> list[Path]:
    return [tiny_dataset / "images" / f"{number:03d}.png" for number in (1, 2, 3)]


def read(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((out / "explain.json").read_text())
    return content


def test_a_picture_a_row_and_a_sentence_for_each_image(
    run: Path,
    images: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    digests_of: Callable[[Path], dict[str, str]],
) -> None:
    before = digests_of(run)
    out = tmp_path / "out"
    assert main(["explain", "--run", str(run), *map(str, images), "--output", str(out)]) == 0
    assert digests_of(run) == before
    text = capsys.readouterr().out
    content = read(out)
    assert (content["method"], content["seed"], content["sanity_bound"]) == ("hires_cam", 0, sanity.BOUND)
    assert [row["file_name"] for row in content["images"]] == [path.name for path in images]
    best = load(run).predict([str(path) for path in images])
    for row, found, path in zip(content["images"], best, images, strict=True):
        assert row["sentence"] in text.replace("\n", " ")
        assert row["detection"] == 1
        assert row["detections"][0]["score"] == pytest.approx(float(found.scores[0]), abs=1e-4)
        assert row["detections"][0]["box"] == pytest.approx(found.boxes[0].tolist(), abs=0.01)
        assert row["class"] == ("dark", "light")[found.labels[0]]
        assert -1 <= row["sanity_correlation"] <= 1
        assert row["tap"] in {tap.name for tap in load(run).adapter.taps}
        picture = cv2.imread(str(out / row["picture"]))
        assert picture.shape[1] == 4 * cv2.imread(str(path)).shape[1], "small images are enlarged, whole"
    assert {path.name for path in out.iterdir()} == {"001.jpg", "002.jpg", "003.jpg", "explain.json"} | {
        ".tlvision-output.json"
    }


def test_the_share_of_the_heat_is_that_of_the_box(
    run: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heats = []
    original = Method.heat

    def watched(*args: Any) -> Any:
        heats.append(original(*args)[0])
        return heats[-1], None

    monkeypatch.setattr(Method, "heat", watched)
    (row,) = explain_images(run, images[:1], tmp_path / "out", ExplainSettings(sanity=False))
    x0, y0, x1, y1 = row["detections"][0]["box"]
    columns, rows = np.arange(96) + 0.5, np.arange(64)[:, None] + 0.5
    inside = (columns > x0) & (columns < x1) & (rows > y0) & (rows < y1)
    assert row["heat_inside"] == pytest.approx(heats[0][inside].sum() / heats[0].sum(), abs=1e-4)
    assert row["area_inside"] == pytest.approx(inside.mean(), abs=1e-4)


def test_a_detection_by_its_number_and_all_of_a_class(run: Path, images: list[Path], tmp_path: Path) -> None:
    found = load(run).predict(str(images[0]))
    (third,) = explain_images(run, images[:1], tmp_path / "a", ExplainSettings(detection=3, sanity=False))
    assert third["detections"][0]["score"] == pytest.approx(float(found.scores[2]), abs=1e-4)
    light = found[found.labels == 1]
    (second,) = explain_images(
        run, images[:1], tmp_path / "b", ExplainSettings(detection=2, class_name="light", sanity=False)
    )
    assert second["detections"][0]["score"] == pytest.approx(float(light.scores[1]), abs=1e-4)
    (every,) = explain_images(run, images[:1], tmp_path / "c", ExplainSettings(class_name="light", sanity=False))
    assert len(every["detections"]) == len(light) > 2
    assert every["detection"] is None
    assert f"{len(light)} detections of 'light'" in every["sentence"]


def test_equal_seeds_give_equal_results(run: Path, images: list[Path], tmp_path: Path) -> None:
    contents = []
    for number, seed in enumerate((0, 0, 1)):
        out = tmp_path / str(number)
        explain_images(run, images[:1], out, ExplainSettings(method="d_rise", masks=24, seed=seed))
        contents.append(read(out))
    assert contents[0] == contents[1]
    assert contents[0]["images"][0]["heat_inside"] != contents[2]["images"][0]["heat_inside"]
    assert contents[0]["masks"] == 24


def test_sanity_is_measured_once_for_d_rise_and_can_be_skipped(run: Path, images: list[Path], tmp_path: Path) -> None:
    rows = explain_images(run, images, tmp_path / "a", ExplainSettings(method="d_rise", masks=16))
    assert ["sanity_correlation" in row for row in rows] == [True, False, False]
    rows = explain_images(run, images, tmp_path / "b", ExplainSettings(sanity=False))
    assert not any("sanity_correlation" in row for row in rows)


def test_a_map_that_does_not_need_the_weights_is_warned_about(
    run: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A map of the image's own pixels stands for a method that shows edges, and noise for one that shows the model."""

    def of_pixels(method: Method, adapter: Any, view: Any, subject: Any) -> Any:
        return view.pixels.mean(axis=2).astype(np.float32), method.tap

    def of_weights(method: Method, adapter: Any, view: Any, subject: Any) -> Any:
        content = adapter.module.backbone.stem[0].weight.detach().numpy().tobytes()
        return np.random.default_rng([*content]).random(view.size, np.float32), method.tap

    for heat, warned in ((of_pixels, True), (of_weights, False)):
        monkeypatch.setattr(Method, "heat", heat)
        (row,) = explain_images(run, images[:1], tmp_path / "out", ExplainSettings(method="eigen_cam"))
        assert (WARNING in capsys.readouterr().out.replace("\n", " ")) == warned
        assert row["sanity_correlation"] == pytest.approx(float(warned), abs=0.1)


def test_the_random_twin_has_other_weights_each_time_and_the_model_keeps_its_own(
    run: Path, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sums: list[float] = []
    original = Method.heat

    def watched(method: Method, adapter: Any, view: Any, subject: Any) -> Any:
        sums.append(float(adapter.module.backbone.stem[0].weight.detach().flatten()[:9].sum()))
        return original(method, adapter, view, subject)

    monkeypatch.setattr(Method, "heat", watched)
    explain_images(run, images[:2], tmp_path / "out", ExplainSettings())
    first, second = sums[: 1 + sanity.SHUFFLES], sums[1 + sanity.SHUFFLES :]
    assert first == second
    assert len(set(first)) == 1 + sanity.SHUFFLES


def test_images_without_a_detection_and_damaged_ones_do_not_stop_the_others(
    run: Path, images: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    best = [float(found.scores[0]) for found in load(run).predict([str(path) for path in images])]
    threshold = sorted(best)[1]
    (copy / "thresholds.json").write_text(json.dumps({"default": threshold, "per_class": {}}))
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(images[0].read_bytes()[:400])
    rows = explain_images(copy, [*images, damaged], tmp_path / "out", ExplainSettings(sanity=False))
    assert ["picture" in row for row in rows] == [score >= threshold for score in best]
    text = capsys.readouterr().out.replace("\n", " ")
    assert "not explained, because no detection reaches its threshold." in text
    assert "damaged.png" in text
    eigen = explain_images(copy, images, tmp_path / "eigen", ExplainSettings(method="eigen_cam", sanity=False))
    assert all("picture" in row for row in eigen), "features need no detection"
    assert "heat_inside" not in eigen[best.index(min(best))]


def test_a_detection_beyond_the_last_is_a_sentence(run: Path, images: list[Path], tmp_path: Path) -> None:
    rows = explain_images(run, images[:1], tmp_path / "out", ExplainSettings(detection=5000))
    assert "not explained, because --detection is 5000, and there are" in rows[0]["sentence"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--tap", "p33"], "this model has no tap 'p33'. Did you mean 'p3'?"),
        (["--class", "lihgt"], "the run has no class 'lihgt'. Did you mean 'light'?"),
        (["--method", "gradcam"], "unknown method 'gradcam'. Did you mean 'grad_cam'?"),
        (["--method", "d_rise", "--tap", "p3"], "d_rise uses no tap"),
        (["--detection", "0"], "--detection: expected 1 (the highest score) or more, got 0"),
        (["--masks", "3"], "--masks: expected 10 or more, got 3"),
        (["--seed", "-1"], "--seed: expected an integer from 0 to 4294967295, got -1"),
    ],
)
def test_wrong_settings_are_one_sentence(
    run: Path, arguments: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, image = tmp_path / "out", tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((64, 96, 3), np.uint8))
    assert main(["explain", "--run", str(run), str(image), "--output", str(out), *arguments]) == 2
    assert expected in capsys.readouterr().err
    assert not out.exists()


def test_only_damaged_images_are_an_error(run: Path, images: list[Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(images[0].read_bytes()[:400])
    with pytest.raises(explain.InputError, match="none of 1 image can be read"):
        explain_images(run, [damaged], tmp_path / "out")


def test_colours_follow_the_heat() -> None:
    heat = np.linspace(0, 2, 12, dtype=np.float32).reshape(3, 4)
    picture = draw_heat(np.full((3, 4, 3), 128, np.uint8), heat)
    assert picture.shape == (3, 4, 3)
    brightness = cv2.cvtColor(viridis(heat / 2), cv2.COLOR_RGB2LAB)[..., 0].ravel().astype(int)
    assert (np.diff(brightness) > 0).all(), "more heat is always lighter"
    cold = draw_heat(np.full((3, 4, 3), 128, np.uint8), np.zeros((3, 4), np.float32))
    assert len(np.unique(cold.reshape(-1, 3), axis=0)) == 1
