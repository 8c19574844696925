"""A whole run, and what interrupts it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tlvision
from fast import first_fast
from interrupt import interrupted
from launch import torchrun
from tiny import config_of
from tlvision.engine import train as runs
from tlvision.types import InputError, RunError

STATE = ("model.safetensors", "optimizer.safetensors", "hook.ema.safetensors", "random.0.safetensors")


def last_state(run: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name in STATE:
        loaded = load_file(str(run / "checkpoints" / "last" / name))
        assert loaded, f"{name} is empty"
        tensors |= {f"{name}|{key}": value for key, value in loaded.items()}
    return tensors


def differing(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> list[str]:
    assert left.keys() == right.keys()
    return [name for name in left if not torch.equal(left[name], right[name])]


@pytest.fixture(scope="module")
def learnt(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a run returned that found most objects, for tests that only read it."""
    config = config_of(tiny_dataset, tmp_path_factory.mktemp("learnt") / "run", epochs=30)
    config["run"]["report"] = True
    config["evaluate"] = {"every": 15}
    return tlvision.train(config)


def test_a_run_leaves_a_folder_that_explains_itself(tiny_config: dict[str, Any], tiny_dataset: Path) -> None:
    tiny_config["run"]["report"] = True
    result = tlvision.train(tiny_config)
    run = result.run
    for name in (
        "config.yaml",
        "environment.json",
        "ledger.json",
        "classes.json",
        "log.jsonl",
        "metrics.json",
        "predictions.json",
        "report.html",
        "checkpoints/last/model.safetensors",
        "checkpoints/best/model.safetensors",
        "pictures/sheet.jpg",
    ):
        assert (run / name).is_file(), name
    assert json.loads((run / "classes.json").read_text()) == {"names": ["dark", "light"], "source_ids": [3, 90]}
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "evaluation"] == [1, 2]
    assert result.metrics == json.loads((run / "metrics.json").read_text())
    ids = {row["category_id"] for row in json.loads((run / "predictions.json").read_text())}
    assert ids <= {3, 90}
    environment = json.loads((run / "environment.json").read_text())
    assert environment["data"]["train"]["images"] == 12
    assert len(environment["data"]["train"]["sha256"]) == 64
    second = tlvision.train(tiny_config)
    assert second.run == run.with_name("run-2"), "an existing run is never overwritten"


def test_the_published_number_is_what_pycocotools_says_of_the_published_file(learnt: Any, tiny_dataset: Path) -> None:
    pytest.importorskip("pycocotools")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(str(tiny_dataset / "val.json"))
    evaluation = COCOeval(truth, truth.loadRes(str(learnt.run / "predictions.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    assert evaluation.stats[0] > 0.1, "the run learnt nothing, so the comparison says nothing"
    assert learnt.metrics["bbox"]["AP"] == pytest.approx(evaluation.stats[0], abs=1e-9)


def test_a_loaded_run_predicts_what_the_run_published(learnt: Any, tiny_dataset: Path) -> None:
    import cv2
    import numpy as np

    model = tlvision.load(learnt.run)
    published = json.loads((learnt.run / "predictions.json").read_text())
    images = {row["id"]: row["file_name"] for row in json.loads((tiny_dataset / "val.json").read_text())["images"]}
    assert len(images) == 4
    for image_id, name in images.items():
        expected = sorted((row["score"] for row in published if row["image_id"] == image_id), reverse=True)
        path = tiny_dataset / "images" / name
        from_file = model.predict(path, min_score=0)
        assert np.sort(from_file.scores)[::-1] == pytest.approx(expected, abs=1e-4)
        from_array = model.predict(cv2.imread(str(path))[:, :, ::-1].copy(), min_score=0)
        assert from_array.boxes == pytest.approx(from_file.boxes, abs=1e-3)


@pytest.mark.parametrize("step", first_fast([4, 1, 3, 5, 6]))
def test_an_interrupted_run_resumes_to_the_same_bits(tiny_config: dict[str, Any], step: int, tmp_path: Path) -> None:
    """Three steps an epoch: within an epoch, at its end, just behind it, and at the end of the run."""
    tiny_config["data"]["workers"] = 0
    straight = tlvision.train(tiny_config).run
    changed = deepcopy(tiny_config)
    changed["run"]["out"] = str(tmp_path / "interrupted")
    with interrupted(step):
        tlvision.train(changed)
    resumed = tlvision.train({}, resume=tmp_path / "interrupted")
    assert not differing(last_state(straight), last_state(resumed.run))
    assert json.loads((straight / "metrics.json").read_text()) == json.loads((resumed.run / "metrics.json").read_text())
    lines = [json.loads(line) for line in (resumed.run / "log.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines if line["kind"] == "evaluation"] == [1, 2], "no evaluation is lost"


@pytest.mark.slow
def test_a_run_that_stops_after_an_epoch_goes_on_to_the_same_bits(
    tiny_config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_config["train"]["epochs"] = 3
    tiny_config["hooks"] = [*tiny_config["hooks"], {"checkpoint": {"every": 9}}]  # stopping writes one by itself
    straight = tlvision.train(tiny_config).run
    tiny_config["run"]["out"] = str(tmp_path / "stopped")
    stopped = tlvision.train(tiny_config, until=1)
    assert stopped.metrics == {}
    assert not (stopped.run / "finished.json").exists()
    assert "stopped after epoch 1; go on with: tlvision train --resume" in " ".join(capsys.readouterr().out.split())
    assert json.loads((stopped.run / "checkpoints" / "last" / "state.json").read_text())["closed_epochs"] == 1
    assert tlvision.train({}, resume=stopped.run, until=2).metrics == {}
    assert tlvision.train({}, resume=stopped.run, until=3).metrics
    assert not differing(last_state(straight), last_state(stopped.run))
    with pytest.raises(InputError, match="--until is an epoch, from 1, got 0"):
        tlvision.train(tiny_config, until=0)


@pytest.mark.slow  # at moments that are chosen, in test_resume
def test_a_killed_process_leaves_a_whole_checkpoint_that_resumes(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    tiny_config["train"]["epochs"] = 400
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_config))
    process = subprocess.Popen(
        [sys.executable, "-m", "tlvision.cli.main", "train", str(path)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    log = tmp_path / "run" / "log.jsonl"
    for _ in range(1200):
        if log.exists() and log.read_text().count("evaluation") >= 2:
            break
        time.sleep(0.05)
    process.kill()
    _, errors = process.communicate()
    assert log.exists(), errors.decode()
    assert process.returncode == -signal.SIGKILL, errors.decode()
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["train"]["epochs"] == 400
    reached = json.loads(next((tmp_path / "run" / "checkpoints").glob("*last*/state.json")).read_text())["step"]
    result = tlvision.train({}, [f"train.epochs={reached // 3 + 1}"], resume=tmp_path / "run")
    assert json.loads((result.run / "checkpoints/last/state.json").read_text())["step"] == (reached // 3 + 1) * 3


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_batch(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = runs.build_run

    def poisoned(config: Any, **options: Any) -> Any:
        parts = build(config, **options)
        honest = parts.adapter.loss
        parts.adapter.loss = lambda images, targets: {
            name: value * float("nan") for name, value in honest(images, targets).items()
        }
        return parts

    monkeypatch.setattr(runs, "build_run", poisoned)
    with pytest.raises(RunError, match=r"step 0: the loss is not finite .* on the images \d+, \d+, \d+, \d+"):
        tlvision.train(tiny_config)
    run = Path(tiny_config["run"]["out"])
    assert load_file(str(run / "offending_batch.safetensors"))["images"].shape == (4, 3, 96, 96)
    assert len(json.loads((run / "offending_batch.json").read_text())["image_ids"]) == 4


def test_a_full_disk_is_said_and_the_earlier_checkpoint_stays_whole(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tlvision.training import checkpoint

    real, calls = checkpoint.save_tensors, []

    def full(path: Path, values: Any) -> None:
        calls.append(path)
        if len(calls) > 4:
            raise OSError(28, "No space left on device")
        real(path, values)

    monkeypatch.setattr(checkpoint, "save_tensors", full)
    with pytest.raises(
        RunError, match=r"the disk is full: .*last could not be written; the earlier checkpoint .* is whole"
    ):
        tlvision.train(tiny_config)
    monkeypatch.setattr(checkpoint, "save_tensors", real)
    run = Path(tiny_config["run"]["out"])
    assert json.loads((run / "checkpoints" / "last" / "state.json").read_text())["step"] == 3
    assert not list((run / "checkpoints").glob(".*")), "half a folder was left behind"
    assert tlvision.train({}, resume=run).metrics


@pytest.mark.slow
def test_a_change_on_purpose_is_recorded_and_rewrites_the_ledger(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].append({"freeze": {"roles": ["stem"]}})
    run = tlvision.train(tiny_config).run
    tlvision.train({}, ["hooks=[ema]", "train.epochs=3"], resume=run)
    rows = json.loads((run / "ledger.json").read_text())["rows"]
    assert {row["trainable_from"] for row in rows if row["role"] == "stem"} == {0}
    keys = {change["key"] for change in json.loads((run / "environment.json").read_text())["changes"]}
    assert {"hooks.freeze", "train.epochs"} <= keys
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert {line["key"] for line in lines if line["kind"] == "change"} == keys
    assert yaml.safe_load((run / "config.yaml").read_text())["train"]["epochs"] == 3
    assert json.loads((run / "checkpoints/last/state.json").read_text())["step"] == 9


@pytest.mark.slow
def test_the_order_of_images_and_the_result_depend_on_the_seed_alone(tiny_config: dict[str, Any]) -> None:
    first, again = tlvision.train(tiny_config).run, tlvision.train(tiny_config).run
    assert not differing(last_state(first), last_state(again))
    tiny_config["train"]["seed"] = 1
    assert differing(last_state(first), last_state(tlvision.train(tiny_config).run))


@pytest.mark.slow
def test_two_processes_share_the_work_and_resume(tiny_config: dict[str, Any], tmp_path: Path, repository: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_config))
    output = torchrun(repository / "tools/train.py", str(path))
    assert output.count("run folder:") == 1, "only the main process prints"
    last = tmp_path / "run" / "checkpoints" / "last"
    state = json.loads((last / "state.json").read_text())
    assert state["step"] == 4, "12 images in steps of 2 x 4: two steps an epoch"
    assert state["images_seen"] == 32
    assert (last / "random.1.safetensors").is_file()
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["counts"]["images"] == 4, "each process predicts its share of the four, none is lost"
    assert "resumed at step 4 of 4" in torchrun(repository / "tools/train.py", "--resume", str(tmp_path / "run"))


def test_two_processes_hold_the_same_model_to_the_bit(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tiny_config))
    torchrun(Path(__file__).with_name("ranks.py"), str(path))
    first, second = (load_file(str(tmp_path / "run" / f"rank{rank}.safetensors")) for rank in (0, 1))
    assert any("running_mean" in name for name in first)
    assert not differing(first, second)
    tiny_config["run"]["out"] = str(tmp_path / "one")
    alone = load_file(str(tlvision.train(tiny_config).run / "checkpoints" / "last" / "model.safetensors"))
    assert differing(first, alone), "two processes trained on other batches than one does"


@pytest.mark.slow
def test_two_processes_hold_the_same_model_after_unfreezing(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    """PITFALLS 6: DistributedDataParallel would leave a group that is freed later out of the reduction."""
    ends = {}
    for name, hook in (
        ("freed", {"gradual_unfreeze": {"at": [0.25, 0.5], "down_to": "backbone.stage4"}}),
        ("frozen", {"linear_probe": {}}),
    ):
        config = deepcopy(tiny_config)
        config["train"]["verify"] = "every_step"
        config["hooks"].append(hook)
        config["run"]["out"] = str(tmp_path / name)
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        torchrun(Path(__file__).with_name("ranks.py"), str(path))
        first, second = (load_file(str(tmp_path / name / f"rank{rank}.safetensors")) for rank in (0, 1))
        assert not differing(first, second), name
        optimizers = load_file(str(tmp_path / name / "checkpoints" / "last" / "optimizer.safetensors"))
        ends[name] = first, {key.split("|")[0] for key in optimizers}
    assert any(name.startswith("backbone.stage4.") for name in ends["freed"][1]), "the freed groups have momentum"
    assert not any(name.startswith("backbone.") for name in ends["frozen"][1])
    changed = differing(ends["freed"][0], ends["frozen"][0])
    assert any(name.startswith("backbone.stage4.") for name in changed)
    assert not any(name.startswith(("backbone.stem.", "backbone.stage1.")) for name in changed)


@pytest.mark.slow
def test_a_run_that_stopped_early_stays_stopped(tiny_config: dict[str, Any]) -> None:
    tiny_config["train"] |= {"epochs": 50, "lr": 1e-8}
    tiny_config["hooks"].append({"early_stop": {"patience": 2, "min_delta": 0.5}})
    run = tlvision.train(tiny_config).run
    state = json.loads((run / "checkpoints" / "last" / "state.json").read_text())
    assert state["step"] == 9, "the first evaluation, and two more that are no better"
    assert "early_stop" in state["stopped"]
    tlvision.train({}, resume=run)
    assert json.loads((run / "checkpoints" / "last" / "state.json").read_text())["step"] == 9


def test_a_run_without_a_report_draws_nothing(tiny_config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    tiny_config["train"]["epochs"] = 1
    assert tiny_config["run"]["report"] is False
    run = tlvision.train(tiny_config).run
    assert (run / "thresholds.json").exists()
    assert not [name for name in ("pictures", "report.html", "report.json") if (run / name).exists()]
    assert "report.html" not in capsys.readouterr().out
