"""Logs of records: what is written is read, by threads and after a kill, and files of others stay as they are."""

from __future__ import annotations

import errno
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from tlvision.monitoring.logged import LoggedModel
from tlvision.monitoring.read import Thinned, parse_time, read_logs, read_reference
from tlvision.monitoring.record import UNCERTAINTY, Record, decode, encode
from tlvision.monitoring.records import RecordLog, bundle_hash
from tlvision.runtime.model import RuntimeModel
from tlvision.types import InputError, Prediction, RunError
from toy_bundle import records_of, samples_of, toy_bundle

START = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def seen(model: RuntimeModel, same_place: list[Path]) -> tuple[Prediction, Any]:
    ((_, found, observation),) = model.observe_samples(samples_of(same_place[:1]))
    return found, observation


def read(path: Path, model: RuntimeModel, **options: Any) -> Any:
    return read_logs([path], bundle_hash(model.folder), limit=options.pop("limit", 1000), **options)


def test_a_record_comes_back_as_it_was(model: RuntimeModel, same_place: list[Path]) -> None:
    (record,) = records_of(model, same_place[:1])
    found = decode(encode(record))
    assert found.taps.keys() == record.taps.keys()
    assert len(found.taps) == 3
    assert all(np.array_equal(found.taps[name], vector) for name, vector in record.taps.items())
    assert np.allclose(found.colours, record.colours, atol=1e-4)
    assert found.numbers == pytest.approx(record.numbers, abs=1e-4)
    assert (found.name, found.size, found.classes) == ("000.png", (96, 64), record.classes)
    assert found.time == record.time.replace(microsecond=record.time.microsecond // 1000 * 1000)
    assert len(encode(record)) < 4000


def test_what_is_recorded_is_what_is_in_the_image(model: RuntimeModel, same_place: list[Path]) -> None:
    from PIL import Image

    ((sample, found, _),) = model.observe_samples(samples_of(same_place[1:2]))
    (record,) = records_of(model, same_place[1:2])
    pixels = np.asarray(Image.open(same_place[1]).convert("RGB"), np.float64) / 255
    assert np.allclose(record.colours, [*pixels.mean(axis=(0, 1)), *pixels.std(axis=(0, 1))], atol=1e-3)
    counting = model.selection.select(found)
    assert 0 < len(counting) < len(found)
    assert sum(record.classes.values()) == record.numbers["objects"] == len(counting)
    assert record.numbers["mean score"] == pytest.approx(counting.scores.mean(), abs=1e-4)
    sizes = counting.boxes[:, 2:] - counting.boxes[:, :2]
    side = np.sqrt(sizes.prod(axis=1)).mean() / np.sqrt(sample.width * sample.height)
    assert record.numbers["mean box side / image side"] == pytest.approx(side, abs=1e-4)
    assert record.numbers[UNCERTAINTY] == pytest.approx((1 - counting.scores.min()) / (1 - 0.0101), abs=1e-3)


def test_padding_is_no_part_of_the_colours(model: RuntimeModel, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (100, 37), (255, 51, 0)).save(tmp_path / "a.png")
    (record,) = records_of(model, [tmp_path / "a.png"])
    assert np.allclose(record.colours, [1.0, 0.2, 0.0, 0.0, 0.0, 0.0], atol=1e-6)
    assert record.sharpness == 0


def test_label_maps_have_shares_confidence_and_entropy(tmp_path: Path, same_place: list[Path]) -> None:
    import torch

    model = toy_bundle(tmp_path, "tiny_segmenter")
    ((_, found, _),) = model.observe_samples(samples_of(same_place[:1]))
    (record,) = records_of(model, same_place[:1])
    assert found.semantic is not None
    assert sum(record.classes.values()) == pytest.approx(1)
    assert record.classes.get(1, 0.0) == pytest.approx((found.semantic == 1).mean())
    # 96 x 64 pixels are the network input, so scores and pixels are the same.
    images = torch.from_numpy(_network_input(model, same_place[0]))
    chances = torch.from_numpy(np.stack(model.run(images.numpy()))).softmax(1)[:, :, ::4, ::4]
    assert record.numbers["mean confidence"] == pytest.approx(float(chances.max(dim=1).values.mean()), abs=1e-4)
    entropy = float(-(chances * chances.log()).sum(dim=1).mean()) / np.log(2)
    assert record.numbers["entropy"] == pytest.approx(entropy, abs=1e-4)


def _network_input(model: RuntimeModel, path: Path) -> np.ndarray:
    from PIL import Image

    from tlvision.runtime.model import prepare

    return prepare([np.asarray(Image.open(path).convert("RGB"))], model.bundle.input_spec)


def test_an_image_of_tiles_has_one_record(model: RuntimeModel, tmp_path: Path, same_place: list[Path]) -> None:
    from dataclasses import replace

    from tlvision.data.settings import TileSettings

    tiles = TileSettings(size=48, overlap=0.0, whole=False)
    tiled = RuntimeModel(model.folder, replace(model.bundle, tiles=tiles), model.sessions)
    (record,) = records_of(tiled, same_place[:1])
    (whole,) = records_of(model, same_place[:1])
    assert np.allclose(record.colours[:3], whole.colours[:3], atol=0.05)
    assert {name: len(vector) for name, vector in record.taps.items()} == {
        name: len(vector) for name, vector in whole.taps.items()
    }


def test_threads_write_whole_lines(model: RuntimeModel, tmp_path: Path, seen: tuple[Prediction, Any]) -> None:
    path = tmp_path / "logs" / "a.jsonl"
    with RecordLog(path, model) as log:

        def work(number: int) -> None:
            for count in range(25):
                log.add(f"{number}-{count}", *seen, (96, 64))

        threads = [Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    content = read(path, model)
    assert content.count == 200
    assert len({record.name for record in content.records}) == 200
    assert not content.damaged
    with pytest.raises(RunError, match="is closed"):
        log.add("late", *seen, (96, 64))


def test_a_cut_line_is_counted_and_the_next_record_is_whole(
    model: RuntimeModel, tmp_path: Path, seen: tuple[Prediction, Any]
) -> None:
    path = tmp_path / "a.jsonl"
    with RecordLog(path, model) as log:
        log.add("first", *seen, (96, 64))
    path.write_bytes(path.read_bytes() + path.read_bytes()[:500])
    with RecordLog(path, model) as log:
        log.add("second", *seen, (96, 64))
    content = read(path, model)
    assert [record.name for record in content.records] == ["first", "second"]
    assert content.damaged == 1
    assert content.notes == ["a.jsonl: 1 line without a whole record, left out: 2"]


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b"[1]",
        b'"text"',
        b"\xff\xfe",
        b"[" * 5000,
        b'{"time":"2030-01-01T00:00:00","bundle":"","name":"","size":[1,1],"colours":[0,0,0,0,0,0],"sharpness":0,'
        b'"classes":{},"numbers":{},"taps":{}}',  # without a time zone
        b'{"time":"2030-01-01T00:00:00Z","bundle":"","name":"","size":[1,1],"colours":[0,0,0,0,0,NaN],"sharpness":0,'
        b'"classes":{},"numbers":{},"taps":{}}',
        b'{"time":"2030-01-01T00:00:00Z","bundle":"","name":"","size":[1,1],"colours":[0,0,0,0,0,0],"sharpness":0,'
        b'"classes":{},"numbers":{},"taps":{"c3":"AAA"}}',
    ],
)
def test_damaged_lines_are_no_records(line: bytes) -> None:
    with pytest.raises(ValueError, match="no record"):
        decode(line)


def test_a_full_log_is_rotated_and_all_parts_are_read_in_their_order(
    model: RuntimeModel, tmp_path: Path, seen: tuple[Prediction, Any]
) -> None:
    path = tmp_path / "a.jsonl"
    with RecordLog(path, model, max_bytes=5000, keep=2) as log:
        for number in range(12):
            log.add(f"{number}", *seen, (96, 64), time=START + timedelta(hours=number))
    files = sorted(tmp_path.iterdir())
    assert [file.name for file in files] == ["a.jsonl", "a.jsonl.1", "a.jsonl.2"]
    assert all(file.stat().st_size <= 5000 for file in files)
    names = [record.name for record in read(path, model).records]
    assert 3 <= len(names) < 12
    assert names == [str(number) for number in range(12 - len(names), 12)]
    content = read(path, model, since=START + timedelta(hours=10), until=START + timedelta(hours=11))
    assert [record.name for record in content.records] == ["10"]
    (tmp_path / "a.jsonl.3.gz").write_bytes(b"of another program")
    assert read(path, model).count == len(names)


def test_a_sample_of_the_images_is_copied_and_limited(
    model: RuntimeModel, tmp_path: Path, same_place: list[Path], seen: tuple[Prediction, Any]
) -> None:
    path = tmp_path / "a.jsonl"
    content = same_place[0].read_bytes()
    with RecordLog(path, model, image_rate=1.0, max_images=3) as log:
        log.add("file", *seen, (96, 64), image=same_place[0])
        log.add("../../evil.png", *seen, (96, 64), image=content)
        log.add("frame", *seen, (96, 64), image=np.zeros((64, 96, 3), np.uint8))
        assert len(list(log.image_folder.iterdir())) == 3
        log.add("no image", *seen, (96, 64))
        log.add("noname", *seen, (96, 64), image=content)
        names = sorted(file.suffix for file in log.image_folder.iterdir())
    assert names == [".jpg", ".jpg", ".png"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.images"]
    found = read(path, model, candidates=True)
    images = {record.name: image for record, image in found.candidates}
    assert images.keys() == {"file", "../../evil.png", "frame", "noname"}
    assert images["file"] == same_place[0]  # its copy is gone, the file is there
    assert images["../../evil.png"].read_bytes() == content
    with RecordLog(tmp_path / "b.jsonl", model, image_rate=0.0) as log:
        log.add("file", *seen, (96, 64), image=same_place[0])
        assert not log.image_folder.exists()
    with pytest.raises(InputError, match=r"must be from 0 to 1, got 1\.5"):
        RecordLog(tmp_path / "c.jsonl", model, image_rate=1.5)


def test_files_of_others_are_refused(model: RuntimeModel, tmp_path: Path, seen: tuple[Prediction, Any]) -> None:
    other = tmp_path / "notes.txt"
    other.write_text("my notes\n")
    with pytest.raises(InputError, match=r"'.*notes.txt' is no log of records"):
        RecordLog(other, model)
    assert other.read_text() == "my notes\n"
    with pytest.raises(InputError, match="is a folder"):
        RecordLog(tmp_path, model)
    bundle = toy_bundle(tmp_path / "another", "tiny_segmenter")
    path = tmp_path / "a.jsonl"
    with RecordLog(path, model) as log:
        log.add("first", *seen, (96, 64))
    with pytest.raises(InputError, match="has records of another bundle"):
        RecordLog(path, bundle)
    with pytest.raises(InputError, match=r"monitor: '.*a.jsonl' has records of another bundle"):
        read(path, bundle)
    with pytest.raises(InputError, match="holds no record"):
        read(other, model)
    with pytest.raises(InputError, match="does not exist"):
        read(tmp_path / "absent", model)


def test_a_full_disk_is_one_sentence(
    model: RuntimeModel, tmp_path: Path, seen: tuple[Prediction, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    write = os.write
    with RecordLog(path, model) as log:
        log.add("first", *seen, (96, 64))
        monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:100]))
        with pytest.raises(RunError, match=r"a.jsonl' cannot be written \(No space left on device\)"):
            log.add("cut", *seen, (96, 64))
        monkeypatch.setattr(os, "write", write)
        log.add("third", *seen, (96, 64))
    content = read(path, model)
    assert [record.name for record in content.records] == ["first", "third"]
    assert content.damaged == 1
    assert errno.ENOSPC == 28


def test_records_are_thinned_evenly_without_keeping_all() -> None:
    kept = Thinned[int](10)
    for number in range(10_007):
        kept.add(number)
        assert len(kept._kept) < 20
    found = kept.items(lambda number: START + timedelta(seconds=number))
    assert len(found) == 10
    steps = np.diff(found)
    assert steps.min() > 0
    assert found[0] == 0
    assert found[-1] > 9000
    assert steps.max() <= 2 * steps.min()


def test_times_of_people_are_understood() -> None:
    assert parse_time("90m", "--since", START) == START - timedelta(minutes=90)
    assert parse_time("2030-01-01", "--since", START) == START
    assert parse_time("2030-01-01T01:00+01:00", "--since", START) == START
    with pytest.raises(InputError, match="--until 'yesterday' is no time"):
        parse_time("yesterday", "--until", START)


def test_a_logged_model_predicts_the_same_and_logs_the_same_whatever_is_asked_for(
    model: RuntimeModel, tmp_path: Path, same_place: list[Path]
) -> None:
    path = tmp_path / "a.jsonl"
    files = same_place[:3]
    with RecordLog(path, model) as log:
        logged = LoggedModel(model, log)
        for min_score in (None, 0.0, 0.9):
            for file in files:
                wanted = model.predict(file, min_score=min_score)
                found = logged.predict(file, min_score=min_score)
                assert np.array_equal(found.scores, wanted.scores)
    records = read(path, model).records
    assert len(records) == 9
    for first, second, third in zip(records[:3], records[3:6], records[6:], strict=True):
        assert first.numbers == second.numbers == third.numbers


def test_the_reference_is_of_the_images_of_the_export(model: RuntimeModel, same_place: list[Path]) -> None:
    records = read_reference(model.folder)
    assert sorted(record.name for record in records) == [path.name for path in same_place[:40]]
    (own,) = records_of(model, same_place[3:4])
    stored = next(record for record in records if record.name == own.name)
    assert isinstance(stored, Record)
    assert all(np.allclose(stored.taps[name], vector, atol=1e-5) for name, vector in own.taps.items())
