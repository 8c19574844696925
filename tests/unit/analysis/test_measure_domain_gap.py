"""`tlvision domain-gap` from images to files, on the toy models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from tlvision.analysis.features import ModelChoice, choose_model, extract, join
from tlvision.cli.main import main
from tlvision.formats.coco import read_images
from tlvision.types import InputSpec


def write_images(folder: Path, count: int, *, seed: int, colour: tuple[int, int, int], size: tuple[int, int]) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 60, (*size, 3)) + np.array(colour) + rng.integers(0, 30)
        cv2.imwrite(str(folder / f"{number:03d}.png"), pixels.astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """`dark` and `same` are alike; `light` has other colours; all have other noise."""
    root = tmp_path_factory.mktemp("sides")
    return SimpleNamespace(
        dark=write_images(root / "dark", 16, seed=0, colour=(20, 20, 20), size=(48, 64)),
        same=write_images(root / "same", 18, seed=1, colour=(20, 20, 20), size=(48, 64)),
        light=write_images(root / "light", 14, seed=2, colour=(150, 120, 60), size=(48, 64)),
    )


TOY = ["--plugin", "toy", "--arch", "tiny_detector", "--weights", "none", "--image-size", "64"]


def gap(a: Path, b: Path, out: Path, *more: str, model: list[str] = TOY) -> tuple[int, dict[str, Any]]:
    code = main(["domain-gap", str(a), str(b), *model, "--out", str(out), *more])
    path = out / "domain_gap.json"
    return code, json.loads(path.read_text()) if path.is_file() else {}


def test_two_domains_are_apart_and_everything_is_written(
    folders: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = gap(folders.dark, folders.light, tmp_path / "gap")
    text = capsys.readouterr().out
    assert code == 0
    assert [row["tap"] for row in found["taps"]] == [
        "(colours)", "stage1", "stage2", "p3", "stage3", "p4", "stage4", "p5",
    ]  # fmt: skip
    assert all(row["a_distance"]["value"] > 1.9 for row in found["taps"])
    assert all(row["p_value"] < 0.01 for row in found["taps"])
    assert found["a"] == {"name": "A: dark", "path": str(folders.dark), "images": 16}
    assert found["largest"] in text
    assert found["advice"] in text
    for expected in ("A-distance", "Fréchet", "MMD", "A: dark (16 images)", "B: light (14 images)", "fresh weights"):
        assert expected in text
    assert "no --classes" in text
    picture = cv2.imread(str(tmp_path / "gap" / "domain_gap.png"))
    assert picture.shape == (900, 1200, 3)


@pytest.mark.slow
def test_images_of_one_kind_are_not_apart_and_a_seed_repeats(folders: SimpleNamespace, tmp_path: Path) -> None:
    _, found = gap(folders.dark, folders.same, tmp_path / "one")
    assert all(row["share"] < 0.25 or row["p_value"] > 0.01 for row in found["taps"])
    _, again = gap(folders.dark, folders.same, tmp_path / "two")
    assert again == found
    _, other = gap(folders.dark, folders.same, tmp_path / "three", "--seed", "1")
    assert other["taps"] != found["taps"]


@pytest.mark.slow
def test_a_run_has_predictions_to_compare(
    small_run: Path, folders: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = set()
    for tap in ("p4", "stage1"):
        code, found = gap(folders.dark, folders.light, tmp_path / "gap", "--tap", tap, model=["--run", str(small_run)])
        assert code == 0
        assert f"(tap {tap})" in capsys.readouterr().out
        pictures.add((tmp_path / "gap" / "domain_gap.png").read_bytes())
    assert len(pictures) == 2
    assert not any(row["fresh_weights"] for row in found["taps"])
    assert set(found["predictions"]["class_shares"]) == {"dark", "light"}
    assert set(found["predictions"]["statistics"]) == {
        "objects in an image", "mean score", "box side / image side",
    }  # fmt: skip
    assert found["predictions_left_out"] is None
    assert found["image_size"] == 96


def test_a_json_chooses_images_and_limit_spreads_them(folders: SimpleNamespace, tmp_path: Path) -> None:
    chosen = [{"id": number, "file_name": f"{number:03d}.png"} for number in range(9)]
    (tmp_path / "a.json").write_text(json.dumps({"images": chosen}))
    more = ("--a-json", str(tmp_path / "a.json"), "--limit", "8")
    code, found = gap(folders.dark, folders.light, tmp_path / "gap", *more)
    assert code == 0
    assert (found["a"]["images"], found["b"]["images"]) == (8, 8)
    assert found["a"]["name"] == "A: a.json"


@pytest.mark.parametrize(("number", "code"), [(1, 0), (13, 2)])
def test_a_limit_takes_images_from_first_to_last(
    number: int, code: int, folders: SimpleNamespace, tmp_path: Path
) -> None:
    """Of 14 images 8 are 0, 2, 4, …, 13: the second, which is broken, is not read, the last is."""
    shutil.copytree(folders.light, tmp_path / "side")
    broken = tmp_path / "side" / f"{number:03d}.png"
    broken.write_bytes(broken.read_bytes()[:2000])
    assert gap(folders.dark, tmp_path / "side", tmp_path / "gap", "--limit", "8")[0] == code


def test_a_dense_model_has_shares_of_pixels(folders: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    model = choose_model(
        ModelChoice(plugin="toy", arch="tiny_segmenter", weights="none", classes=("a", "b", "c"), image_size=64), 0
    )
    assert (
        model.no_predictions_because
    )  # nothing is trained, so that nothing would be measured; here it is wanted all the same
    model = type(model)(**{**{name: getattr(model, name) for name in model.__slots__}, "no_predictions_because": ""})
    seen = join([part for _, part, _ in extract(model, read_images(folders.dark).images)])
    assert seen.classes is not None
    assert seen.classes.shape == (16, 3)
    assert seen.classes.sum(axis=1) == pytest.approx(np.ones(16))
    assert (seen.numbers["entropy (0 to 1)"] > 0).all()
    assert (seen.numbers["entropy (0 to 1)"] <= 1).all()
    assert (seen.numbers["mean confidence"] >= 1 / 3).all()


class _Averages:
    """A model whose one tap is the image at an eighth of the size."""

    module = torch.nn.Identity()
    input_spec = InputSpec(multiple_of=64, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))

    def features(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"small": torch.nn.functional.avg_pool2d(images, 8)}


def test_padding_takes_no_part(tmp_path: Path) -> None:
    """Wide and high images are padded at other places: a classifier would tell the domains apart by that alone."""
    rows = {}
    model = choose_model(ModelChoice(plugin="toy", arch="tiny_detector", weights="none", image_size=64), 0)
    assert not model.adapter.module.training
    values = {**{name: getattr(model, name) for name in model.__slots__}, "adapter": _Averages(), "uninitialised": ()}
    for name, size in (("wide", (16, 64)), ("high", (64, 24)), ("odd", (37, 64))):
        folder = tmp_path / name
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), np.full((*size, 3), 51, np.uint8))
        ((_, seen, _),) = extract(type(model)(**values), read_images(folder).images)
        rows[name] = seen
    expected = (51 / 255 - 0.5) / 0.25
    for name in ("wide", "high", "odd"):
        assert rows[name].features["small"] == pytest.approx(np.full((1, 3), expected), abs=1e-6)
        assert rows[name].colours == pytest.approx(np.array([[0.2, 0.2, 0.2, 0, 0, 0]]), abs=1e-6)


def test_taps_that_see_through_fresh_weights_are_told(folders: SimpleNamespace) -> None:
    model = choose_model(ModelChoice(plugin="toy", arch="tiny_detector", weights="none", image_size=64), 0)
    names = [name for name, _ in model.adapter.module.named_parameters()]
    values = {name: getattr(model, name) for name in model.__slots__}

    def fresh(prefix: str) -> set[str]:
        chosen = tuple(name for name in names if name.startswith(prefix))
        assert chosen
        changed = type(model)(**{**values, "uninitialised": chosen})
        _, _, found = next(extract(changed, read_images(folders.dark).images[:1]))
        return set(found)

    assert fresh("backbone.stage3") == {"stage3", "stage4", "p3", "p4", "p5"}
    assert fresh("neck.") == {"p3", "p4", "p5"}
    assert fresh("head") == set()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["--tap", "stage9"], "no tap 'stage9'. Did you mean 'stage"),
        (["--limit", "7"], "--limit: expected 8"),
        (["--image-size", "8"], "--image-size: expected 32"),
        (["--run", "somewhere"], "which model"),
        (["--arch", "tiny_detectr"], "tiny_detector"),
        (["--a-json", "absent.json"], "side A: "),
    ],
)
def test_wrong_options_are_one_sentence(
    change: list[str], said: str, folders: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gap(folders.dark, folders.light, tmp_path / "gap", *change)[0] == 2
    error = capsys.readouterr().err
    assert said in error
    assert "Traceback" not in error
    assert not (tmp_path / "gap").exists()


def test_no_model_is_one_sentence(folders: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model, said in (([], "which model"), (["--plugin", "toy"], "goes with --arch and --weights")):
        assert gap(folders.dark, folders.light, tmp_path / "gap", model=model)[0] == 2
        assert said in capsys.readouterr().err


def test_bad_folders_are_one_sentence(
    folders: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    few = write_images(tmp_path / "few", 7, seed=3, colour=(0, 0, 0), size=(48, 64))
    broken = tmp_path / "broken"
    shutil.copytree(folders.light, broken)
    data = (broken / "003.png").read_bytes()
    (broken / "003.png").write_bytes(data[: len(data) // 2])
    for folder, said in (
        (tmp_path / "absent", "side B: the image folder"),
        (tmp_path / "empty", "holds no image"),
        (few, "7 image(s)"),
        (broken, "003.png"),
    ):
        assert gap(folders.dark, folder, tmp_path / "gap")[0] == 2
        error = capsys.readouterr().err
        assert said in error
        assert "data.target" not in error
        assert "Traceback" not in error
