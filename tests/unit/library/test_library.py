"""Runs and bundles are kept under names and versions, whole and unchanged, with where they come from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import tlvision
from tiny import QUIET, config_of
from tlvision.cli.main import main
from tlvision.files.inputs import file_hash
from tlvision.library import library as module
from tlvision.library.address import Address, check_name, parse
from tlvision.library.library import VARIABLE, Library, local_weights, pinned
from tlvision.library.store import FolderStore
from tlvision.types import InputError


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Library:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "library"))
    return Library(FolderStore(tmp_path / "library"))


def copy_of(run: Path, place: Path) -> Path:
    return Path(shutil.copytree(run, place))


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b", "-x", "con", "COM1", "a" * 65, "é", "a@1"])
def test_a_name_that_is_no_folder_everywhere_is_an_error(name: str) -> None:
    with pytest.raises(InputError, match="cannot be the name of a model"):
        check_name(name)


@pytest.mark.parametrize("version", ["", "0", "-1", "x", "1.0", "latest"])
def test_a_version_is_a_whole_number(version: str) -> None:
    assert parse("library://cells@3") == Address("cells", 3)
    with pytest.raises(InputError, match="has no version behind the '@'"):
        parse(f"cells@{version}")


def test_each_addition_is_a_version_and_the_same_content_is_none(
    library: Library, small_run: Path, tmp_path: Path
) -> None:
    first, new = library.add(small_run, "cells", "the first")
    assert (str(first.address), new) == ("cells@1", True)
    assert library.add(small_run, "cells")[1] is False
    changed = copy_of(small_run, tmp_path / "changed")
    (changed / "metrics.json").write_text((small_run / "metrics.json").read_text() + "\n")
    assert str(library.add(changed, "cells")[0].address) == "cells@2"
    assert [str(each.address) for each in library.entries()] == ["cells@1", "cells@2"]
    assert str(library.entry(Address("cells")).address) == "cells@2"
    about = first.about
    assert about["weights_sha256"] == file_hash(small_run / "checkpoints/best/model.safetensors")
    assert about["classes"] == ["dark", "light"]
    assert about["metrics"]["bbox/AP"] == json.loads((small_run / "metrics.json").read_text())["bbox"]["AP"]
    assert not list((tmp_path / "library" / "cells").glob(".part-*"))
    with pytest.raises(InputError, match=r"has no model 'cell'\. Did you mean 'cells'"):
        library.entry(Address("cell"))
    with pytest.raises(InputError, match=r"'cells' has no version 3 in .*; it has 1, 2"):
        library.entry(Address("cells", 3))


def test_two_people_who_add_at_the_same_moment_get_two_versions(
    library: Library, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library.add(small_run, "cells")
    changed = copy_of(small_run, tmp_path / "changed")
    (changed / "metrics.json").write_text((small_run / "metrics.json").read_text() + "\n")
    seen, folder = FolderStore.versions, tmp_path / "library"
    # The other has taken number 2 since this one looked.
    shutil.copytree(folder / "cells" / "1", folder / "cells" / "2")
    monkeypatch.setattr(FolderStore, "versions", lambda self, name: [each for each in seen(self, name) if each != 2])
    assert str(library.add(changed, "cells")[0].address) == "cells@3"


def test_what_comes_out_is_what_went_in_and_a_changed_file_does_not(
    library: Library, small_run: Path, tmp_path: Path
) -> None:
    entry, _ = library.add(small_run, "cells")
    library.get(entry.address, tmp_path / "out")
    names = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*") if path.is_file()}
    assert names == set(entry.about["files"]) > {"config.yaml", "report.html"}
    assert all(file_hash(tmp_path / "out" / name) == file_hash(small_run / name) for name in names)
    assert tlvision.load(tmp_path / "out").classes.names == ("dark", "light")
    with pytest.raises(InputError, match="exists; give a new folder"):
        library.get(entry.address, tmp_path / "out")
    with (entry.folder / "checkpoints/best/model.safetensors").open("ab") as file:
        file.write(b"x")
    with pytest.raises(InputError, match="is missing or has changed since it was added"):
        library.get(entry.address, tmp_path / "other")
    with pytest.raises(InputError, match="is missing or has changed since it was added"):
        local_weights("library://cells@1")


def test_what_is_no_finished_run_is_an_error(library: Library, small_run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        library.add(tmp_path / "nothing", "cells")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="is neither a run nor a bundle"):
        library.add(tmp_path / "empty", "cells")
    unfinished = copy_of(small_run, tmp_path / "unfinished")
    (unfinished / "finished.json").unlink()
    with pytest.raises(InputError, match="has not come to its end"):
        library.add(unfinished, "cells")
    assert not list(library.entries())


def test_a_run_starts_from_a_model_of_the_library_and_remembers_it(
    library: Library, small_run: Path, tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    library.add(small_run, "cells")
    assert pinned("library://cells") == "library://cells@1"
    assert (pinned("coco"), local_weights("coco")) == ("coco", "coco")

    def train(weights: str, name: str) -> Path:
        config = config_of(tiny_dataset, tmp_path / name, epochs=1, hooks=(QUIET,))
        config["model"]["weights"] = weights
        return tlvision.train(config).run

    run = train("library://cells", "child")
    assert "weights: library://cells@1" in (run / "config.yaml").read_text()
    with_file = train(str(small_run / "checkpoints/best/model.safetensors"), "same")
    hashes = [file_hash(each / "checkpoints/best/model.safetensors") for each in (run, with_file)]
    assert hashes[0] == hashes[1], "the weights are those of the file"
    library.add(run, "child")
    library.add(with_file, "other")
    assert library.entry(parse("child")).about["parent"]["model"] == "cells@1"
    assert library.entry(parse("other")).about["parent"]["model"] == "cells@1", "found by the sha256"
    assert [str(each) for each in library.children(Address("cells", 1))] == ["child@1", "other@1"]
    assert main(["models", "show", "cells"]) == 0
    shown = capsys.readouterr().out
    assert "made from it   child@1, other@1" in shown
    assert main(["models", "list"]) == 0
    assert "library" not in (listed := capsys.readouterr().out) or "child@1" in listed
    assert main(["models", "show", "child"]) == 0
    assert "from           cells@1" in capsys.readouterr().out


def test_the_command_adds_lists_and_gets(
    library: Library, small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "list"]) == 0
    assert "has no models; add one" in capsys.readouterr().out
    assert main(["models", "add", str(small_run), "--name", "cells", "--note", "[bold]not markup[/bold]"]) == 0
    assert "added  cells@1 (run)" in capsys.readouterr().out
    assert main(["models", "add", str(small_run), "--name", "cells"]) == 0
    assert "there already  cells@1" in capsys.readouterr().out
    assert main(["models", "list"]) == 0
    assert "[bold]" in capsys.readouterr().out
    assert main(["models", "get", "cells@1", "--output", str(tmp_path / "copy")]) == 0
    assert main(["models", "get", "cells@9", "--output", str(tmp_path / "copy9")]) == 2
    assert "has no version 9" in capsys.readouterr().err
    elsewhere = ["--library", str(tmp_path / "elsewhere")]
    assert main(["models", "list", *elsewhere]) == 0
    assert "has no models" in capsys.readouterr().out


def test_without_a_folder_the_library_is_in_the_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    assert str(module.open_library().store) == str(tmp_path / ".tlvision" / "library")


@pytest.mark.slow
def test_a_bundle_knows_its_run_and_cannot_be_trained(library: Library, small_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="an extra")
    assert main(["export", str(small_run), "--output", str(tmp_path / "bundle")]) == 0
    library.add(small_run, "cells")
    entry, _ = library.add(tmp_path / "bundle", "cells-onnx")
    about: dict[str, Any] = entry.about
    assert (about["kind"], about["parent"]["model"], about["task"]) == ("bundle", "cells@1", "detect")
    library.get(entry.address, tmp_path / "out")
    assert tlvision.runtime.load(tmp_path / "out").classes.names == ("dark", "light")
    with pytest.raises(InputError, match=r"is a bundle, whose graphs cannot be trained; use the run .*, cells@1"):
        local_weights("library://cells-onnx")
