"""The command line as a user meets it: exit codes, one clear sentence, no traceback."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import tlvision
from tlvision.cli.main import main


def write_config(path: Path, config: dict[str, Any]) -> str:
    path.write_text(yaml.safe_dump(config))
    return str(path)


def test_a_run_is_trained_evaluated_and_used(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["train", write_config(tmp_path / "c.yaml", tiny_config), "--set", "train.epochs=1", "data.workers=0"])
        == 0
    )
    text = capsys.readouterr().out
    for expected in ("weights none: 0 loaded", "ledger", "parameters are trained", "AP50", "tlvision predict --run"):
        assert expected in text
    run = str(tmp_path / "run")
    published = json.loads((tmp_path / "run" / "metrics.json").read_text())

    assert main(["evaluate", "--run", run, "--output", str(tmp_path / "m" / "own.json")]) == 0
    own = json.loads((tmp_path / "m" / "own.json").read_text())
    assert own["bbox"] == pytest.approx(published["bbox"], nan_ok=True)

    train_json, images = str(tiny_dataset / "train.json"), str(tiny_dataset / "images")
    assert main(["evaluate", "--run", run, "--json", train_json, "--images", images]) == 0
    other = json.loads((tmp_path / "run" / "evaluations" / "train" / "metrics.json").read_text())
    assert other["counts"]["images"] == 12

    command = [
        "evaluate",
        "--gt",
        str(tiny_dataset / "val.json"),
        "--predictions",
        str(tmp_path / "run/predictions.json"),
    ]
    assert main([*command, "--output", str(tmp_path / "files.json")]) == 0
    intervals = published.pop("intervals")
    assert json.loads((tmp_path / "files.json").read_text()) == published
    assert own["intervals"] == intervals

    out = tmp_path / "out"
    assert main(["predict", "--run", run, images, "--output", str(out), "--min-score", "0.0"]) == 0
    assert len(list(out.glob("*.jpg"))) == 16
    rows = json.loads((out / "predictions.json").read_text())
    assert {row["category"] for row in rows} <= {"dark", "light"}
    assert {row["file_name"] for row in rows} <= {f"{i:03d}.png" for i in range(1, 17)}


def test_show_prints_groups_taps_ledger_and_weights_and_trains_nothing(
    tiny_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "c.yaml", tiny_config)
    assert main(["show", config, "--set", "hooks=[{freeze: {roles: [stem, backbone]}}]"]) == 0
    text = capsys.readouterr().out
    for expected in ("layer groups", "backbone.stage1", "taps", "stride", "frozen", "ledger", "2 epochs of 3 steps"):
        assert expected in text
    assert not (tmp_path / "run").exists()


def test_evaluating_two_files_needs_no_torch(tiny_dataset: Path, tmp_path: Path) -> None:
    predictions = tmp_path / "p.json"
    predictions.write_text("[]")
    arguments = ["evaluate", "--gt", str(tiny_dataset / "val.json"), "--predictions", str(predictions)]
    code = (
        f"import sys; from tlvision.cli.main import main; assert main({arguments}) == 0\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("iou", "kinds"), [(None, ["bbox", "segm"]), ("bbox", ["bbox"]), ("segm", ["segm"]), ("both", ["bbox", "segm"])]
)
def test_masks_of_two_files_are_compared_where_there_are_some(
    iou: str | None, kinds: list[str], tmp_path: Path, write_files: Any
) -> None:
    row = {
        "image_id": 1,
        "category_id": 1,
        "bbox": [2, 2, 6, 4],
        "segmentation": {"size": [8, 9], "counts": [10, 30, 32]},
    }
    truth = {"images": [{"id": 1, "width": 9, "height": 8}], "categories": [{"id": 1, "name": "a"}],
             "annotations": [{"id": 1, "iscrowd": 0, **row}]}  # fmt: skip
    gt, predictions = write_files(truth, [{**row, "score": 0.5}])
    arguments = ["evaluate", "--gt", str(gt), "--predictions", str(predictions), "--output", str(tmp_path / "m.json")]
    assert main(arguments + (["--iou", iou] if iou else [])) == 0
    metrics = json.loads((tmp_path / "m.json").read_text())
    assert [kind for kind in ("bbox", "segm") if kind in metrics] == kinds
    assert all(metrics[kind]["AP"] == 1.0 for kind in kinds)


def test_hooks_and_plugins_are_listed_with_what_a_user_needs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["hooks"]) == 0
    text = capsys.readouterr().out
    for expected in (
        "freeze  (setup)",
        "through:",
        "ema  (observer)",
        "Polyak",
        "- decay: float, >= 0, < 1 (default 0.9999)",
    ):
        assert expected in text
    assert main(["plugins"]) == 0
    text = capsys.readouterr().out
    for expected in ("yolo", "AGPL-3.0", "yolov8n", "tiny_detector"):
        assert expected in text


def test_architectures_of_one_plugin(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plugins", "toy", "seg"]) == 0
    assert capsys.readouterr().out.split() == ["tiny_segmenter"]
    assert main(["plugins", "toy", "seq"]) == 2
    assert "none of the 3 architectures of 'toy' contains 'seq'" in capsys.readouterr().err
    assert main(["plugins", "toi"]) == 2
    assert "toy" in capsys.readouterr().err


WRONG_CONFIGS = [
    ("model.plugin=tooy", "no plugin 'tooy' is installed. Did you mean 'toy'?"),
    ("model.arch=tiny_detectr", "Did you mean 'tiny_detector'?"),
    ("model.weights=absent.pt", "absent.pt"),
    ("model.weights=coco", "coco"),
    ("evaluate.select=bbox/ap", "no metric 'bbox/ap'. Did you mean 'bbox/AP'?"),
    ("data.train.json=absent.json", "absent.json"),
    ("train.lrr=3", "train.lrr: unknown key. Did you mean 'lr'?"),
    ("hooks=[{freeze: {through: nek}}]", "no layer group 'nek'. Did you mean 'neck'?"),
    ("hooks=[ema, ema]", "'ema' is listed more than once"),
    ("data.classes=[darkk]", "darkk"),
    ("train.device=cuda", "cuda"),
]


@pytest.mark.parametrize(("override", "expected"), WRONG_CONFIGS, ids=[row[0] for row in WRONG_CONFIGS])
def test_a_wrong_config_is_one_sentence_and_exit_code_2(
    override: str, expected: str, tiny_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import torch

    if override == "train.device=cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert main(["train", write_config(tmp_path / "c.yaml", tiny_config), "--set", override]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert expected in error
    assert "Traceback" not in error


WRONG_USES = [
    (["train"], "give a config"),
    (["train", "c.yaml", "--resume", "r"], "Remove the config"),
    (["train", "--resume", "absent"], "is not the folder of a run"),
    (["train", "absent.yaml"], "no config file"),
    (["evaluate"], "give either --run RUN"),
    (["evaluate", "--gt", "absent.json"], "--gt needs --predictions"),
    (["evaluate", "--gt", "absent.json", "--predictions", "p.json"], "absent.json"),
    (["evaluate", "--run", "absent"], "absent"),
    (["evaluate", "--run", "absent", "--iou", "segm"], "--iou has no effect on a run"),
    (["predict", "--run", "absent", "--output", "o", "absent.jpg"], "no file or folder 'absent.jpg'"),
]


@pytest.mark.parametrize(("arguments", "expected"), WRONG_USES, ids=[" ".join(row[0]) for row in WRONG_USES])
def test_wrong_usage_is_one_sentence_and_exit_code_2(
    arguments: list[str],
    expected: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert expected in capsys.readouterr().err


def edit(tiny_dataset: Path, tmp_path: Path, change: Any) -> str:
    content = json.loads((tiny_dataset / "train.json").read_text())
    change(content)
    path = tmp_path / "edited.json"
    path.write_text(json.dumps(content))
    return str(path)


WRONG_DATA = [
    ("no categories", lambda c: c.pop("categories"), "categories"),
    ("no images", lambda c: c.update(images=[], annotations=[]), "image"),
    ("absent file", lambda c: c["images"][0].update(file_name="absent.png"), "absent.png"),
    ("leaves the folder", lambda c: c["images"][0].update(file_name="../x.png"), "../x.png"),
    ("other size", lambda c: c["images"][0].update(width=50), "96"),
    ("unknown image", lambda c: c["annotations"][0].update(image_id=999), "999"),
    ("unknown category", lambda c: c["annotations"][0].update(category_id=999), "999"),
    ("double id", lambda c: c["annotations"].append(dict(c["annotations"][0])), "1"),
    ("nothing labelled", lambda c: c.update(annotations=[]), "annotation"),
]


@pytest.mark.parametrize(("change", "expected"), [row[1:] for row in WRONG_DATA], ids=[row[0] for row in WRONG_DATA])
def test_wrong_data_is_one_sentence_and_exit_code_2(  # noqa: PLR0917
    change: Any,
    expected: str,
    tiny_config: dict[str, Any],
    tiny_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tiny_config["data"]["train"]["json"] = edit(tiny_dataset, tmp_path, change)
    assert main(["train", write_config(tmp_path / "c.yaml", tiny_config)]) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "edited.json" in error
    assert "Traceback" not in error


def test_what_is_skipped_is_said(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def spoil(content: dict[str, Any]) -> None:
        content["annotations"][0]["bbox"] = [1, 1, 0, 5]
        content["annotations"][1]["bbox"] = [900, 900, 5, 5]

    tiny_config["data"]["train"]["json"] = edit(tiny_dataset, tmp_path, spoil)
    assert main(["train", write_config(tmp_path / "c.yaml", tiny_config), "--set", "train.epochs=1"]) == 0
    text = capsys.readouterr().out
    assert "note edited.json" in text
    notes = " ".join(line for line in text.splitlines() if "note" in line)
    assert "1" in notes
    assert "2" in notes


def test_a_val_set_on_which_nothing_can_be_measured_is_an_error(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path / "c.yaml", tiny_config)
    assert main(["train", config, "--set", "evaluate.select=bbox/APl"]) == 2
    assert "'bbox/APl' cannot be measured" in capsys.readouterr().err
    tiny_config["data"]["val"]["json"] = edit(tiny_dataset, tmp_path, lambda content: content.update(annotations=[]))
    assert main(["train", write_config(tmp_path / "c.yaml", tiny_config)]) == 2
    assert "edited.json" in capsys.readouterr().err


def test_a_class_of_val_that_train_lacks_is_an_error_that_says_what_to_do(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["categories"][0]["name"] = "darker"

    tiny_config["data"]["train"]["json"] = edit(tiny_dataset, tmp_path, rename)
    config = write_config(tmp_path / "c.yaml", tiny_config)
    assert main(["train", config]) == 2
    error = capsys.readouterr().err
    assert "'dark'" in error
    assert "data.classes" in error
    assert main(["train", config, "--set", "data.classes=[light]", "train.epochs=1"]) == 0
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["per_class"].keys() == {"light"}


def test_a_truncated_image_is_named_when_it_is_decoded(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    images = tmp_path / "images"
    shutil.copytree(tiny_dataset / "images", images)
    whole = (images / "003.png").read_bytes()
    (images / "003.png").write_bytes(whole[: len(whole) // 2])
    tiny_config["data"]["train"]["images"] = str(images)
    assert main(["train", write_config(tmp_path / "c.yaml", tiny_config)]) == 2
    assert "003.png" in capsys.readouterr().err


def test_the_python_interface_needs_one_import(tiny_config: dict[str, Any]) -> None:
    assert callable(tlvision.train)
    assert callable(tlvision.load)
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        tlvision.trian  # noqa: B018


def test_pseudo_labels_are_judged_from_two_files(
    tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = json.loads((tiny_dataset / "val.json").read_text())
    rows = [
        {key: row[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.7} for row in truth["annotations"]
    ]
    (tmp_path / "p.json").write_text(json.dumps(rows))
    files = ["evaluate", "--gt", str(tiny_dataset / "val.json"), "--predictions", str(tmp_path / "p.json")]
    assert main([*files, "--pseudo-labels", "--output", str(tmp_path / "q.json")]) == 0
    assert f"0.70  {len(rows):>13}      1.000   1.000     1.000" in capsys.readouterr().out
    assert json.loads((tmp_path / "q.json").read_text())["all"][-1]["pseudo_labels"] == 0
    for wrong in ([*files, "--pseudo-labels", "--iou", "segm"], ["evaluate", "--run", "r", "--pseudo-labels"]):
        assert main(wrong) == 2
        assert "--pseudo-labels compares boxes" in capsys.readouterr().err


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run([sys.executable, "-m", "tlvision", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("tlvision ")
