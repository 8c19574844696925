"""`tlvision monitor` from logs to exit codes, page, JSON and images to label; without torch."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.cli.main import main
from tlvision.formats.coco import read_coco
from tlvision.monitoring import monitor as monitor_module
from tlvision.monitoring.logged import LoggedModel
from tlvision.monitoring.records import RecordLog
from tlvision.runtime.bundle import write_bundle
from tlvision.runtime.model import RuntimeModel
from toy_bundle import photos, samples_of, toy_bundle

START = datetime(2030, 1, 1, tzinfo=UTC)


def write_log(path: Path, model: RuntimeModel, images: list[Path], **options: Any) -> Path:
    time = START
    with RecordLog(path, model, **options) as log:
        for sample, found, seen in model.observe_samples(samples_of(images)):
            log.add(sample.path.name, found, seen, (sample.width, sample.height), image=sample.path, time=time)
            time += timedelta(hours=1)
    return path


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, model: RuntimeModel, same_place: list[Path]) -> Path:
    return write_log(tmp_path_factory.mktemp("good") / "good.jsonl", model, same_place[40:])


@pytest.fixture(scope="module")
def dark(tmp_path_factory: pytest.TempPathFactory, model: RuntimeModel) -> Path:
    folder = tmp_path_factory.mktemp("dark")
    return write_log(folder / "dark.jsonl", model, photos(folder / "images", 24, seed=3, light=-40))


@pytest.fixture
def no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no page, which takes most of the time, in a test that is not about it."""
    monkeypatch.setattr(monitor_module, "write_monitor_page", lambda *arguments: None)


def monitor(model: RuntimeModel, *arguments: object) -> int:
    return main(["monitor", str(model.folder), *map(str, arguments)])


def test_no_alarm_and_an_alarm(
    model: RuntimeModel, good: Path, dark: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert monitor(model, good, "--output", tmp_path / "good") == 0
    assert "No alarm: " in capsys.readouterr().out
    assert monitor(model, dark, "--output", tmp_path / "dark") == 1
    assert "Alarm: " in capsys.readouterr().out
    for name, verdict in (("good", "no alarm"), ("dark", "alarm")):
        result = json.loads((tmp_path / name / "monitor.json").read_text())
        assert result["verdict"] == verdict
        tests = {row["measure"]: row for row in result["tests"]}
        assert tests["brightness"]["alarm"] == (verdict == "alarm")
        assert len(tests) >= 10
        page = (tmp_path / name / "report.html").read_text()
        assert result["answer"] in page
        for heading in ("Tests", "Over time", "Distributions", "Predicted classes", "Images farthest"):
            assert f"{heading}" in page, heading
        assert page.count("<svg") >= 10
        assert page.count("<img") == 8
    # Both times together, of which one was good.
    assert monitor(model, good, dark, "--until", "2030-01-01T00:30") == 3


def test_too_few_records_are_not_measured(
    model: RuntimeModel, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert monitor(model, good, "--since", "2030-01-02T10:00", "--output", tmp_path / "out") == 3
    assert "Not measured: the log has 6 records of that time, and 16 are needed." in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "monitor.json").read_text())
    assert (result["verdict"], result["exit_code"], result["tests"]) == ("not measured", 3, [])
    assert "Not measured" in (tmp_path / "out" / "report.html").read_text()
    assert monitor(model, good, "--since", "2031-01-01", "--output", tmp_path / "out") == 3
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    assert monitor(model, empty) == 3


@pytest.mark.usefixtures("no_page")
def test_damaged_lines_are_counted(
    model: RuntimeModel, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log = tmp_path / "log.jsonl"
    lines = good.read_bytes().splitlines(keepends=True)
    lines[3] = lines[3][:200] + b"\n"
    log.write_bytes(b"".join(lines) + lines[0][:300])
    assert monitor(model, log, "--output", tmp_path / "out") == 0
    assert "log.jsonl: 2 lines without a whole record, left out: 4, 41" in capsys.readouterr().out
    result = json.loads((tmp_path / "out" / "monitor.json").read_text())
    assert result["records"] == 39
    assert result["notes"] == ["log.jsonl: 2 lines without a whole record, left out: 4, 41"]


def test_wrong_inputs_are_one_sentence(
    model: RuntimeModel, good: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = toy_bundle(tmp_path / "other", "tiny_segmenter")
    write_log(tmp_path / "other.jsonl", other, photos(tmp_path / "images", 2))
    old = tmp_path / "old"
    shutil.copytree(model.folder, old)
    (old / "reference.jsonl").unlink()
    write_bundle(old, model.bundle)
    write_log(tmp_path / "old.jsonl", replace_folder(model, old), photos(tmp_path / "images", 2))
    cases = [
        ([str(model.folder), str(tmp_path / "other.jsonl")], "has records of another bundle"),
        ([str(old), str(tmp_path / "old.jsonl")], "has no reference.jsonl: an earlier tlvision has exported it"),
        ([str(tmp_path), str(good)], "holds no bundle.json"),
        ([str(model.folder), str(good), "--alpha", "0.001"], "--alpha must be from 0.01 to 0.2, got 0.001"),
        ([str(model.folder), str(good), "--limit", "15"], "--limit must be 16 or more"),
        ([str(model.folder), str(good), "--collect", "3"], "Give a folder for them with --output"),
        ([str(model.folder), str(good), "--since", "soon"], "--since 'soon' is no time"),
        ([str(model.folder), str(good), "--output", str(good.parent)], "holds the input"),
    ]
    for arguments, text in cases:
        assert main(["monitor", *arguments]) == 2, arguments
        assert text in capsys.readouterr().err


def replace_folder(model: RuntimeModel, folder: Path) -> RuntimeModel:
    return RuntimeModel(folder, model.bundle, model.sessions)


@pytest.mark.slow
def test_a_log_of_a_good_time_may_be_the_reference(model: RuntimeModel, good: Path, dark: Path, tmp_path: Path) -> None:
    twice = write_log(tmp_path / "log.jsonl", model, photos(tmp_path / "images", 40, seed=9, light=-40))
    assert monitor(model, twice) == 1
    assert monitor(model, twice, "--against", dark) == 0
    assert monitor(model, good, "--against", dark) == 1


@pytest.mark.usefixtures("no_page")
def test_images_worth_a_label_are_collected_as_training_data(
    model: RuntimeModel, dark: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitor_module, "load", lambda folder: model)
    assert monitor(model, dark, "--output", tmp_path / "out", "--collect", "5") == 1
    folder = tmp_path / "out" / "collected"
    names = sorted(path.name for path in (folder / "images").iterdir())
    assert names == [f"{number:04d}.png" for number in range(1, 6)]
    data = read_coco(folder / "labels.json", folder / "images")
    assert len(data.samples) == 5
    assert data.classes.source_ids == (3, 90)
    for sample in data.samples:
        wanted = model.predict(sample.path)
        assert len(sample.target.labels) == len(wanted) > 0
        assert np.allclose(sample.target.boxes, wanted.boxes, atol=0.02)
    chosen = json.loads((folder / "chosen.json").read_text())
    assert [row["file"] for row in chosen] == names
    assert len({row["name"] for row in chosen}) == 5
    # Again, into the same folder; and more than there are.
    assert monitor(model, dark, "--output", tmp_path / "out", "--collect", "50") == 1
    assert len(list((folder / "images").iterdir())) == 24


@pytest.mark.usefixtures("no_page")
def test_an_image_that_is_gone_or_broken_is_not_collected(
    model: RuntimeModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(monitor_module, "load", lambda folder: model)
    images = photos(tmp_path / "images", 3, seed=3)
    log = write_log(tmp_path / "log.jsonl", model, images)
    images[0].unlink()
    images[1].write_bytes(b"no image")
    assert monitor(model, log, "--output", tmp_path / "out", "--collect", "3") == 3
    out = capsys.readouterr().out
    assert "001.png: not collected" in out
    assert "1 image of 3 collected: the log has no more images at hand" in out
    for path in images[1:]:
        path.unlink()
    assert monitor(model, log, "--output", tmp_path / "out", "--collect", "3") == 3
    assert "no image of the log is at hand" in capsys.readouterr().out


@pytest.mark.usefixtures("no_page")
def test_label_maps_are_collected_with_the_values_of_the_training_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = photos(tmp_path / "images", 20)
    model = toy_bundle(tmp_path / "bundle", "tiny_segmenter", images)
    log = write_log(tmp_path / "log.jsonl", model, images[:2])
    monkeypatch.setattr(monitor_module, "load", lambda folder: model)
    assert monitor(model, log, "--output", tmp_path / "out", "--collect", "2") == 3
    for path in sorted((tmp_path / "out/collected/images").iterdir()):
        label_map = np.asarray(Image.open(tmp_path / f"out/collected/masks/{path.stem}.png"))
        wanted = model.predict(path).semantic
        assert wanted is not None
        assert (label_map == np.array([3, 90])[wanted]).all()


def test_predict_appends_to_a_log(
    model: RuntimeModel,
    same_place: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tlvision.runtime.load", lambda folder: model)
    command = ["predict", "--bundle", str(model.folder), *map(str, same_place[:3])]
    log = tmp_path / "log.jsonl"
    for _ in range(2):
        options = ["--output", str(tmp_path / "out"), "--log", str(log), "--log-images", "1"]
        assert main([*command, *options, "--min-score", "0.9"]) == 0
    assert len(log.read_bytes().splitlines()) == 6
    assert len(list((tmp_path / "log.jsonl.images").iterdir())) == 6
    assert monitor(model, log) == 3
    inside = ["--output", str(tmp_path / "out"), "--log", str(tmp_path / "out" / "log.jsonl")]
    for options, text in (
        (inside, "lies in the output folder"),
        (["--output", str(tmp_path / "b"), "--log-images", "0.5"], "has no effect without --log"),
        (["--output", str(tmp_path / "b"), "--log", str(same_place[0])], "is no log of records"),
    ):
        assert main([*command, *options]) == 2
        assert text in capsys.readouterr().err


def test_frames_of_videos_are_logged(model: RuntimeModel, same_place: list[Path], tmp_path: Path) -> None:
    frame = np.asarray(Image.open(same_place[0]).convert("RGB"))
    with RecordLog(tmp_path / "log.jsonl", model) as log:
        found = list(LoggedModel(model, log).predict_frames([(samples_of(same_place)[0], frame)] * 2))
    assert len(found) == 2
    assert len((tmp_path / "log.jsonl").read_bytes().splitlines()) == 2


def test_a_run_has_no_reference(small_run: Path, tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["--output", str(tmp_path / "out"), "--log", str(tmp_path / "log.jsonl")]
    assert main(["predict", "--run", str(small_run), str(tiny_dataset / "images"), *options]) == 2


@pytest.mark.slow
def test_no_torch_is_imported(model: RuntimeModel, good: Path) -> None:
    code = (
        "import sys; from tlvision.cli.main import main; code = main(sys.argv[1:]); "
        "assert not {'torch', 'torchvision', 'lightning_fabric'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "monitor", str(model.folder), str(good)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_the_reference_is_checked_with_the_bundle(model: RuntimeModel, good: Path, tmp_path: Path) -> None:
    changed = tmp_path / "changed"
    shutil.copytree(model.folder, changed)
    with (changed / "reference.jsonl").open("ab") as file:
        file.write(b"\n")
    assert main(["monitor", str(changed), str(good)]) == 2
