"""No command overwrites a file that tlvision did not write: inputs, other people's files, results that were edited."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tlvision.files.outputs import MANIFEST, check_folder, output_folder
from tlvision.types import InputError

TL = Callable[..., tuple[int, str]]


@pytest.fixture
def photos(tiny_dataset: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("001.png", "002.png"):
        shutil.copyfile(tiny_dataset / "images" / name, folder / name)
    return folder


def jpegs(folder: Path) -> Path:
    """Give the photographs the names that predict's pictures have."""
    from PIL import Image

    for path in sorted(folder.glob("*.png")):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()
    return folder


def test_photographs_are_not_replaced_by_pictures(
    small_run: Path, photos: Path, tl: TL, protect: Callable[[Path], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    protect(jpegs(photos))
    for images, out in ((photos, photos), (photos, f"{photos}/."), (photos / "001.jpg", photos)):
        code, text = tl("predict", "--run", small_run, images, "--output", out)
        assert (code, "holds the input" in text) == (2, True), text
    monkeypatch.chdir(photos)
    for images, out in ((".", "."), ("001.jpg", "."), ("*.jpg", "../photos")):
        code, text = tl("predict", "--run", small_run, images, "--output", out)
        assert code == 2, text
    link = photos.parent / "link"
    link.symlink_to(photos)
    assert tl("predict", "--run", small_run, photos, "--output", link)[0] == 2


def test_a_folder_of_other_files_is_refused(
    small_run: Path, photos: Path, tmp_path: Path, tl: TL, protect: Callable[[Path], Path]
) -> None:
    other = tmp_path / "thesis"
    other.mkdir()
    (other / "predictions.json").write_text("[]")
    protect(other)
    code, text = tl("predict", "--run", small_run, photos, "--output", other)
    assert (code, "did not write it: predictions.json" in text) == (2, True), text
    assert tl("predict", "--run", small_run, photos, "--output", small_run)[0] == 2
    assert tl("predict", "--run", small_run, photos, "--output", other / "predictions.json")[0] == 2


def test_our_own_results_are_replaced_as_a_whole_unless_they_were_edited(
    small_run: Path, photos: Path, tmp_path: Path, tl: TL
) -> None:
    out = tmp_path / "found"
    command = ("predict", "--run", small_run, "--output", out)
    assert tl(*command, photos)[0] == 0
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "001.jpg", "002.jpg", "predictions.json"]
    assert tl(*command, photos / "001.png")[0] == 0
    assert sorted(path.name for path in out.iterdir()) == [MANIFEST, "001.jpg", "predictions.json"]
    (out / "notes.txt").write_text("mine")
    code, text = tl(*command, photos)
    assert (code, "files that tlvision did not write: notes.txt" in text) == (2, True), text
    (out / "notes.txt").unlink()
    (out / "predictions.json").write_text("[1]")
    code, text = tl(*command, photos)
    assert (code, "changed since tlvision wrote them: predictions.json" in text) == (2, True), text
    assert (out / "predictions.json").read_text() == "[1]"


def test_a_list_of_files_cannot_reach_out_of_its_folder(tmp_path: Path) -> None:
    treasure, out = tmp_path / "treasure.txt", tmp_path / "out"
    treasure.write_text("gold")
    out.mkdir()
    status = treasure.stat()
    files = {"../treasure.txt": [status.st_size, status.st_mtime_ns]}
    (out / MANIFEST).write_text(json.dumps({"written_by": "predict", "about": "", "files": files}))
    with output_folder(out, "predict"):
        pass
    assert treasure.read_text() == "gold"


def test_results_of_other_data_do_not_share_a_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with output_folder(out, "evaluate", about="a/test.json"):
        (out / "metrics.json").write_text("{}")
    check_folder(out, "evaluate", about="a/test.json")
    with pytest.raises(InputError, match=r"holds results of 'a/test\.json', not of 'b/test\.json'"):
        check_folder(out, "evaluate", about="b/test.json")
    with pytest.raises(InputError, match="'tlvision predict' did not write it"):
        check_folder(out, "predict")


BAD_FOLDERS = ["a\0b", "x" * 5000, "/proc/nowhere/out"]


@pytest.mark.parametrize("out", BAD_FOLDERS, ids=["NUL", "too long", "not writable"])
def test_a_folder_that_cannot_be_made_is_one_sentence(small_run: Path, photos: Path, tl: TL, out: str) -> None:
    code, text = tl("predict", "--run", small_run, photos, "--output", out)
    assert (code, text.startswith("error: predict: ")) == (2, True), text


def test_evaluate_writes_its_json_beside_nothing_of_the_users(
    run_copy: Path, tiny_dataset: Path, tmp_path: Path, tl: TL, protect: Callable[[Path], Path]
) -> None:
    protect(tiny_dataset)
    truth, predictions = tiny_dataset / "val.json", run_copy / "predictions.json"
    pair = ("evaluate", "--gt", truth, "--predictions", predictions)
    mine = tmp_path / "mine.json"
    mine.write_text('{"task": "detect"}')
    for output, words in (
        (truth, "is or lies in the input"),
        (predictions, "is or lies in the input"),
        (mine, "did not write it"),
        (tmp_path, "is a folder"),
        (mine / "deeper.json", "no folder that can be written"),
    ):
        code, text = tl(*pair, "--output", output)
        assert (code, words in text) == (2, True), text
    assert mine.read_text() == '{"task": "detect"}'
    ours = tmp_path / "new" / "ours.json"
    assert tl(*pair, "--output", ours)[0] == 0
    assert tl(*pair, "--output", ours)[0] == 0  # its own file may be written again
    assert json.loads(ours.read_text())["task"] == "detect"


def test_two_jsons_of_one_name_are_evaluated_into_two_folders(
    run_copy: Path, tiny_dataset: Path, tmp_path: Path, tl: TL
) -> None:
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
        shutil.copyfile(tiny_dataset / f"{'train' if part == 'a' else 'val'}.json", tmp_path / part / "test.json")
        command = ("evaluate", "--run", run_copy, "--json", tmp_path / part / "test.json")
        assert tl(*command, "--images", tiny_dataset / "images")[0] == 0
    found = [run_copy / "evaluations" / name / "metrics.json" for name in ("test", "test-2")]
    assert [json.loads(path.read_text())["counts"]["images"] for path in found] == [12, 4]


def test_domain_gap_leaves_other_files_alone(
    small_run: Path, photos: Path, tmp_path: Path, tl: TL, protect: Callable[[Path], Path]
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "domain_gap.json").write_text("mine")
    protect(other)
    code, text = tl("domain-gap", photos, photos, "--run", small_run, "--out", other)
    assert (code, "did not write it" in text) == (2, True), text
    assert tl("domain-gap", photos, photos, "--run", small_run, "--out", photos)[0] == 2


def test_a_new_plugin_does_not_fall_into_an_existing_folder(tmp_path: Path, tl: TL) -> None:
    (tmp_path / "tlvision-wonder").mkdir()
    (tmp_path / "tlvision-wonder" / "README.md").write_text("mine")
    assert tl("new-plugin", "wonder", "--in", tmp_path)[0] == 2
    assert (tmp_path / "tlvision-wonder" / "README.md").read_text() == "mine"


@pytest.mark.skipif(os.name != "posix", reason="pipes with a name are POSIX's")
def test_a_pipe_among_the_images_does_not_hang(small_run: Path, photos: Path, tmp_path: Path, tl: TL) -> None:
    os.mkfifo(photos / "camera.png")
    code, text = tl("predict", "--run", small_run, photos, "--output", tmp_path / "found")
    assert (code, "camera.png" in text) == (0, True), text
    assert tl("predict", "--run", small_run, photos / "camera.png", "--output", tmp_path / "pipe")[0] == 2
