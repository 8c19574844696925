"""Command lines as users type them: the exit code and the sentence of each; never a traceback."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from fast import first_fast
from tlvision.cli.main import main

ROWS: list[tuple[str, int, str]] = [
    ("", 2, "usage: tlvision"),
    ("--version", 0, "tlvision 0"),
    ("--help", 0, "usage: tlvision"),
    ("nothing", 2, "invalid choice: 'nothing'"),
    ("--nothing", 2, "unrecognized arguments"),
    ("trai c.yaml", 2, "invalid choice"),
    ("train", 2, "give a config"),
    ("train c.yaml --resume r", 2, "Remove the config"),
    ("train absent.yaml", 2, "no config file 'absent.yaml'"),
    ("train .", 2, "'.' is a folder"),
    ("train pipe.yaml", 2, "'pipe.yaml' is a named pipe"),
    ("train /dev/zero", 2, "'/dev/zero' is not a regular file"),
    ("train picture.png", 2, "not a text file"),
    ("train a\0b", 2, "no config file"),
    ("train {long}", 2, "no config file"),
    ("train c.yaml --set", 2, "expected at least one argument"),
    ("train c.yaml --set train.epochs", 2, "expected key=value"),
    ("train c.yaml --set train.epochs={digits}", 2, "not YAML"),
    ("train c.yaml --set train.epochs=true", 2, "train.epochs: input should be a valid integer, got True"),
    ("train c.yaml --set train.seed=4294967296", 2, "train.seed: input should be less than or equal to 4294967295"),
    ("train c.yaml --set data.image_size=1000000", 2, "data.image_size: input should be less than or equal to 16384"),
    ("train c.yaml --set data.augment.crop=1000000", 2, "data.augment.crop: input should be less than or equal to"),
    (
        "train c.yaml --set train.accumulate=1000000",
        2,
        "one step takes 4,000,000 images (data.batch.labelled 4 x train",
    ),
    ("train c.yaml --set data.batch.labelled=10000", 2, "but there are 12. A step may take each image 32 times"),
    ("train c.yaml --set run.out=file", 2, "file"),
    ("train c.yaml --set run.out=file/run", 2, "file"),
    ("train c.yaml --set run.out={long}", 2, "run.out: expected a path, but it is too long"),
    ("train c.yaml --set run.out=/proc/run", 2, "/proc/run"),
    ("train c.yaml --set model.plugin=tooy", 2, "no plugin 'tooy' is installed. Did you mean 'toy'?"),
    ("train c.yaml --set model.weights=.", 2, "weights: '.' is a folder"),
    ("train c.yaml --set model.weights=pipe.yaml", 2, "weights: 'pipe.yaml' is a named pipe"),
    ("train c.yaml --set model.weights=picture.png", 2, "cannot be read as a torch checkpoint"),
    ("train c.yaml --set data.classes=latin.txt", 2, "'latin.txt' is not a text file in UTF-8"),
    ("train c.yaml --set data.train.json=.", 2, "."),
    ("train c.yaml --set data.train.json=picture.png", 2, "picture.png"),
    ("train c.yaml --set data.train.images=absent", 2, "absent"),
    ("train c.yaml --set data.target={{images: empty}} hooks=[]", 2, "empty"),
    ("train c.yaml extra", 2, "unrecognized arguments: extra"),
    ("train --resume absent", 2, "is not the folder of a run"),
    ("train --resume file", 2, "is not the folder of a run"),
    ("show absent.yaml", 2, "no config file"),
    ("show pipe.yaml", 2, "a named pipe"),
    ("show c.yaml --set train.lr='1e-3'", 2, "train.lr"),
    ("show", 2, "required: config"),
    ("verify absent.yaml", 2, "no config file"),
    ("verify c.yaml --set train.epochs=0", 2, "greater than or equal to 1"),
    ("verify", 2, "required: config"),
    ("adapt", 2, "required: CONFIG"),
    ("adapt absent.yaml", 2, "no config file"),
    ("adapt c.yaml --seeds 0 0", 2, "--seeds: 0 is given more than once"),
    ("adapt c.yaml --seeds 1 2 1 2", 2, "--seeds: 1, 2 is given more than once"),
    ("adapt c.yaml --seeds -1", 2, "--seeds: expected integers from 0 to 4294967295, got [-1]"),
    ("adapt c.yaml --seeds 4294967296", 2, "--seeds: expected integers from 0 to 4294967295"),
    ("adapt c.yaml --seeds {digits}", 2, "--seeds"),
    ("adapt c.yaml --seeds one", 2, "invalid int value: 'one'"),
    ("adapt c.yaml --seeds", 2, "expected at least one argument"),
    ("adapt c.yaml --arms nothing", 2, "invalid choice: 'nothing'"),
    ("adapt c.yaml --out file", 2, "--out: 'file' is not a folder"),
    ("adapt c.yaml --out {long}", 2, "--out: the path is too long"),
    ("adapt c.yaml", 2, "adapt"),
    ("stress", 2, "required: RUN"),
    ("stress absent", 2, "there is no folder 'absent'. Give the folder of a trained run"),
    ("stress file", 2, "there is no folder 'file'"),
    ("stress empty", 2, "empty"),
    ("stress {long}", 2, "RUN: the path is too long"),
    ("stress empty --images 0", 2, "--images: expected 1 or more, got 0"),
    ("stress empty --images many", 2, "invalid int value: 'many'"),
    ("stress empty --images {digits}", 2, "int"),
    ("stress empty --seed -1", 2, "--seed: expected an integer from 0 to 4294967295, got -1"),
    ("stress empty --corruptions fogg", 2, "unknown corruption 'fogg'. Did you mean 'fog'?"),
    ("stress empty --corruptions {long}", 2, "unknown corruption 'xxx"),
    ("stress empty --severities 0", 2, "expected severities from 1 to 5, got 0"),
    ("stress empty --severities", 2, "expected at least one argument"),
    ("stress empty --output {long}", 2, "--output: the path is too long"),
    ("explain", 2, "required: images, --run, --output"),
    ("explain picture.png --output o", 2, "required: --run"),
    ("explain picture.png --run absent --output o", 2, "no folder 'absent'"),
    ("explain picture.png --run file --output o", 2, "no folder 'file'"),
    ("explain picture.png --run empty --output o", 2, "empty"),
    ("explain absent.png --run empty --output o", 2, "no file or folder 'absent.png'"),
    ("explain picture.png --run {long} --output o", 2, "File name too long"),
    ("explain picture.png --run empty --output {long}", 2, "output folder"),
    ("explain picture.png --run empty --output file", 2, "'file' is a file, not a folder"),
    ("explain picture.png --run empty --output o --detection 0", 2, "--detection: expected 1 (the highest score)"),
    ("explain picture.png --run empty --output o --detection {digits}", 2, "int"),
    ("explain picture.png --run empty --output o --masks 9", 2, "--masks: expected 10 or more, got 9"),
    ("explain picture.png --run empty --output o --seed -1", 2, "--seed: expected an integer from 0 to 4294967295"),
    ("explain picture.png --run empty --output o --method gradcam", 2, "Did you mean 'grad_cam'?"),
    ("monitor", 2, "required: BUNDLE, LOG"),
    ("monitor empty file", 2, "'empty' holds no bundle.json"),
    ("monitor absent file --alpha 2", 2, "--alpha must be from 0.01 to 0.2, got 2.0"),
    ("monitor absent file --limit 0", 2, "--limit must be 16 or more, got 0"),
    ("domain-gap", 2, "required: A, B"),
    ("domain-gap empty", 2, "required: B"),
    ("domain-gap empty empty", 2, "side A: the folder 'empty' holds no image"),
    ("domain-gap absent empty", 2, "side A: the image folder 'absent' does not exist"),
    ("domain-gap file file", 2, "side A: the image folder 'file' does not exist"),
    ("domain-gap empty empty --limit 0", 2, "--limit: expected"),
    ("domain-gap empty empty --limit -3", 2, "--limit: expected"),
    ("domain-gap empty empty --limit 7", 2, "--limit: expected 8 images or more"),
    ("domain-gap empty empty --limit many", 2, "invalid int value: 'many'"),
    ("domain-gap empty empty --seed -1", 2, "--seed: expected an integer from 0 to 4294967295, got -1"),
    ("domain-gap empty empty --seed 4294967296", 2, "--seed: expected an integer from 0 to 4294967295"),
    ("domain-gap empty empty --out file", 2, "'file' is a file, not a folder"),
    ("domain-gap {images} {images} --image-size 31 --run r", 2, "--image-size: expected 32 to 16384 pixels, got 31"),
    ("domain-gap {images} {images} --image-size 1000000 --run r", 2, "--image-size: expected 32 to 16384 pixels"),
    ("domain-gap {images} {images} --image-size 64.5 --run r", 2, "invalid int value"),
    ("domain-gap {images} {images}", 2, "either --run RUN, or --plugin"),
    ("domain-gap {images} {images} --run r --plugin toy", 2, "either --run RUN, or --plugin"),
    ("domain-gap {images} {images} --run absent", 2, "absent"),
    ("domain-gap {images} {images} --run file", 2, "file"),
    ("domain-gap {images} {images} --run r --arch tiny_detector", 2, "a run has its own arch"),
    ("domain-gap {images} {images} --plugin toy", 2, "--arch"),
    ("domain-gap {images} {images} --plugin toy --arch tiny_detector", 2, "--weights"),
    ("domain-gap {images} {images} --plugin tooy --arch a --weights none", 2, "Did you mean 'toy'?"),
    ("domain-gap {images} {images} --plugin toy --arch tiny --weights none", 2, "tiny_detector"),
    ("domain-gap {images} {images} --plugin toy --arch tiny_detector --weights file", 2, "file"),
    ("domain-gap {images} {images} --plugin toy --arch tiny_detector --weights none --tap none", 2, "no tap 'none'"),
    ("domain-gap {images} {images} --a-json absent.json --run r", 2, "'absent.json' does not exist"),
    ("domain-gap {images} {images} --a-json . --run r", 2, "side A"),
    ("domain-gap {images} {images} --b-json picture.png --run r", 2, "side B"),
    ("check-plugin", 2, "required: name"),
    ("check-plugin tooy", 2, "tooy"),
    ("check-plugin toy --arch tiny", 2, "tiny_detector"),
    ("check-plugin toy --image-size 0", 2, "--image-size: expected a multiple of 32 from 32 to 16384, got 0"),
    ("check-plugin toy --image-size 97", 2, "--image-size: expected a multiple of 32"),
    ("check-plugin toy --image-size 1048576", 2, "--image-size: expected a multiple of 32"),
    ("check-plugin toy --image-size -32", 2, "--image-size: expected a multiple of 32"),
    ("check-plugin toy --weights absent.pt --arch tiny_detector", 2, "absent.pt"),
    ("check-plugin toy --weights . --arch tiny_detector", 2, "weights: '.' is a folder"),
    ("new-plugin", 2, "required: name"),
    ("new-plugin Big", 2, "expected a name of lower-case letters"),
    ("new-plugin 1a", 2, "expected a name of lower-case letters"),
    ("new-plugin a-b", 2, "expected a name of lower-case letters"),
    ("new-plugin ../x", 2, "expected a name of lower-case letters"),
    ("new-plugin class", 2, "expected a name of lower-case letters"),
    ("new-plugin größe", 2, "expected a name of lower-case letters"),
    ("new-plugin toy", 2, "there is a plugin 'toy' already"),
    ("new-plugin openmmlab", 2, "there is a package 'tlvision_openmmlab' already"),
    ("new-plugin {longname}", 2, "Use at most 50"),
    ("new-plugin mine", 2, "'tlvision-mine' exists already"),
    ("new-plugin dangling", 2, "'tlvision-dangling' exists already"),
    ("new-plugin afile", 2, "'tlvision-afile' exists already"),
    ("new-plugin other --in file", 2, "cannot be created"),
    ("new-plugin other --in /proc", 2, "cannot be created"),
    ("new-plugin other --in {long}", 2, "cannot be created"),
    ("plugins", 0, "tiny_detector"),
    ("plugins toy", 0, "tiny_segmenter"),
    ("plugins tooy", 2, "Did you mean 'toy'?"),
    ("plugins toy nothing", 2, "none of the 3 architectures of 'toy' contains 'nothing'"),
    ("plugins toy a b", 2, "unrecognized arguments"),
    ("hooks", 0, "ema  (observer)"),
    ("hooks ema", 2, "unrecognized arguments"),
]
assert len(ROWS) >= 110


@pytest.fixture
def workplace(tmp_path: Path, tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder, with what the rows name."""
    from PIL import Image

    folder = tmp_path / "place"
    (folder / "empty").mkdir(parents=True)
    (folder / "tlvision-mine").mkdir()
    (folder / "tlvision-mine" / "work.py").write_text("mine")
    (folder / "tlvision-afile").write_text("mine")
    (folder / "tlvision-dangling").symlink_to("nowhere")
    (folder / "file").write_text("a file of the user")
    (folder / "latin.txt").write_bytes("größe\n".encode("latin-1"))
    Image.new("RGB", (8, 8)).save(folder / "picture.png")
    (folder / "c.yaml").write_text(yaml.safe_dump({**tiny_config, "run": {"out": str(folder / "run")}}))
    if sys.platform != "win32":
        os.mkfifo(folder / "pipe.yaml")
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "200")
    return folder


def call(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run the command line; return its exit code and all that it printed. Fails if that holds a traceback."""
    capsys.readouterr()
    try:
        code = main(list(arguments))
    except SystemExit as error:  # argparse
        code = error.code if isinstance(error.code, int) else 1
    output = capsys.readouterr()
    text = output.out + output.err
    assert "Traceback" not in text, text[-3000:]
    return code, text


def snapshot(folder: Path) -> dict[str, bytes | None]:
    paths = [path for path in sorted(folder.rglob("*")) if not path.is_fifo()]
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.skipif(sys.platform == "win32", reason="rows name files of Linux")
@pytest.mark.parametrize(("line", "code", "expected"), ROWS, ids=[row[0][:60] or "nothing" for row in ROWS])
def test_each_command_line_ends_with_its_code_and_sentence(  # noqa: PLR0917
    line: str, code: int, expected: str, workplace: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {
        "{long}": "x" * 5000,
        "{longname}": "x" * 60,
        "{digits}": "9" * 5000,
        "{images}": str(tiny_dataset / "images"),
        "{{images:": "{images:",
        "empty}}": "empty}",
    }
    arguments = re.findall(r"data\.target=\S+ \S+|\S+", line)
    for word, value in words.items():
        arguments = [argument.replace(word, value) for argument in arguments]
    before = snapshot(workplace)
    found, text = call(arguments, capsys)
    assert (found, expected in text) == (code, True), text[-2000:]
    assert "this is a bug" not in text
    assert snapshot(workplace) == before, "a refused command has written something"


def test_new_plugin_writes_a_new_folder_once(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, text = call(["new-plugin", "fresh_one", "--in", "below/it"], capsys)
    assert code == 0, text
    before = snapshot(workplace)
    assert "below/it/tlvision-fresh_one/pyproject.toml" in before
    code, text = call(["new-plugin", "fresh_one", "--in", "below/it"], capsys)
    assert (code, snapshot(workplace)) == (2, before)


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `tlvision hooks` raise `error`."""
    import tlvision.cli.hooks

    def run(options: object) -> None:
        raise error

    monkeypatch.setattr(tlvision.cli.hooks, "run", run)


class OutOfMemoryError(RuntimeError):
    """What torch raises on a GPU has this name."""


ERRORS: list[tuple[BaseException, int, str]] = [
    (ZeroDivisionError("division by zero"), 70, "this is a bug in tlvision or a plugin (ZeroDivisionError: division"),
    (KeyError("x"), 70, "this is a bug in tlvision or a plugin (KeyError: 'x')"),
    (RecursionError("too deep"), 70, "this is a bug"),
    (RuntimeError("shapes\nof many lines"), 70, "(RuntimeError: shapes)"),
    (AssertionError(), 70, "this is a bug"),
    (OSError("something"), 70, "this is a bug"),
    (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), 70, "this is a bug"),
    (MemoryError(), 1, "failed: out of memory"),
    (OutOfMemoryError("CUDA"), 1, "failed: out of memory"),
    (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), 1, "failed: out of memory"),
    (PermissionError(errno.EACCES, "Permission denied", "/x"), 2, "error: '/x': Permission denied"),
    (IsADirectoryError(errno.EISDIR, "Is a directory", "/x"), 2, "error: '/x': Is a directory"),
    (FileNotFoundError(errno.ENOENT, "No such file or directory", "/x"), 2, "error: '/x': No such file"),
    (FileExistsError(errno.EEXIST, "File exists", "/x"), 2, "error: '/x': File exists"),
    (NotADirectoryError(errno.ENOTDIR, "Not a directory", b"/x"), 2, "error: '/x': Not a directory"),
    (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 5000), 2, "File name too long"),
    (OSError(errno.EROFS, "Read-only file system", "/x"), 2, "Read-only file system"),
    (OSError(errno.ENOSPC, "No space left on device"), 1, "failed: the disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded", "/x"), 1, "failed: the disk is full or the quota is used up at '/x'"),
    (KeyboardInterrupt(), 1, "interrupted"),
    (KeyboardInterrupt("stopped at step 3"), 1, "interrupted: stopped at step 3"),
    (BrokenPipeError(errno.EPIPE, "Broken pipe"), 0, ""),
]
assert ERRORS


@pytest.mark.parametrize(
    ("error", "code", "expected"), first_fast(ERRORS, 4), ids=[f"{row[0]!r:.40}" for row in ERRORS]
)
def test_an_exception_that_no_command_foresaw_is_one_sentence(  # noqa: PLR0917
    error: BaseException,
    code: int,
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.delenv("TLVISION_DEBUG", raising=False)
    raising(monkeypatch, error)
    with monkeypatch.context() as context:
        context.setattr(sys, "stdout", sys.stdout)
        found, text = call(["hooks"], capsys)
    assert (found, expected in text) == (code, True), text
    assert len(text) < 1000
    reports = list(tmp_path.glob("tlvision-bug-*.txt"))
    assert len(reports) == (1 if code == 70 else 0)
    for path in reports:
        report = path.read_text()
        assert str(path) in text
        for part in ("command: tlvision hooks", "python: 3", "platform: ", "pydantic: ", "tlvision", "Traceback"):
            assert part in report


@pytest.mark.slow
def test_a_second_report_leaves_the_first_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raising(monkeypatch, ValueError("one"))
    call(["hooks"], capsys)
    before = snapshot(tmp_path)
    call(["hooks"], capsys)
    after = snapshot(tmp_path)
    assert len(after) == 2
    assert before.items() <= after.items()


def test_for_developers_the_exception_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TLVISION_DEBUG", "1")
    raising(monkeypatch, ZeroDivisionError("x"))
    with pytest.raises(ZeroDivisionError):
        main(["hooks"])


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_the_output_is_said() -> None:
    command = f"{sys.executable} -m tlvision hooks > /dev/full"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert "failed: the disk is full" in done.stderr
    assert done.returncode != 0


def test_names_that_are_no_text_are_printed_with_escapes() -> None:
    """An ASCII terminal, and an argument with bytes that are no UTF-8."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "tlvision", "plugins", b"gr\xf6\xdfe-\xc3\xb6"]
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert done.returncode == 2
    assert b"no plugin 'gr\\udcf6" in done.stderr
    assert b"Traceback" not in done.stderr
