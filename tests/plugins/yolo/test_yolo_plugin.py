"""The plugin object: what it offers, what it refuses, and that it leaves the process alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from fast import first_fast
from launch import run_script
from tlvision.plugin import BuildSpec, get_plugin, plugin_names
from tlvision.types import ClassMap, InputError
from tlvision_yolo.architectures import ARCHITECTURES, find_architecture
from tlvision_yolo.plugin import plugin
from tlvision_yolo.upstream import DetectionModel

SMALL = ("yolov8n", "yolo26n", "yolov5nu", "yolov9t", "yolov10n", "yolo11n", "yolo12n")


def spec(arch: str, weights: str) -> BuildSpec:
    return BuildSpec(arch=arch, weights=weights, classes=ClassMap.from_names(("a", "b", "c")))


def run_python(code: str, tmp_path: Path, **environment: str) -> str:
    keep = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=keep | {"YOLO_CONFIG_DIR": str(tmp_path)} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_it_is_found_by_its_entry_point() -> None:
    assert "yolo" in plugin_names()
    assert get_plugin("yolo") is plugin
    assert plugin.name == "yolo"
    assert plugin.tasks == ("detect", "instance")


def test_every_family_and_size_is_offered() -> None:
    names = plugin.architectures()
    detectors = [name for name in names if plugin.task_of(name) == "detect"]
    segmenters = [name for name in names if plugin.task_of(name) == "instance"]
    assert len(set(detectors)) == len(detectors) == 10 + 5 + 5 + 6 + 5 + 5 + 5
    assert len(set(segmenters)) == len(segmenters) == 5 + 5 + 5
    assert sorted(detectors + segmenters) == sorted(names)
    assert segmenters == [name for name in names if name.endswith("-seg")]
    assert find_architecture("yolov5n") is find_architecture("yolov5nu")


def test_an_unknown_name_gives_the_nearest() -> None:
    with pytest.raises(InputError, match=r"model\.arch.*'yolov8n\.pt'.*Did you mean 'yolov8n'"):
        plugin.task_of("yolov8n.pt")
    with pytest.raises(InputError, match=r"model\.arch"):
        plugin.build(spec("resnet", "none"))


@pytest.mark.parametrize("arch", first_fast(SMALL, 2))
def test_an_architecture_is_the_one_that_upstream_builds_by_that_name(build: Any, arch: str) -> None:
    adapter, report = build(arch)
    ours = {key: tensor.shape for key, tensor in adapter.module.state_dict().items()}
    theirs = DetectionModel(f"{arch.removesuffix('u')}.yaml", nc=3, verbose=False).state_dict()
    assert ours == {key: tensor.shape for key, tensor in theirs.items()}
    assert report.source == "none"
    assert report.missing == tuple(ours)
    assert adapter.module.training


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_every_architecture_is_built(build: Any, arch: str) -> None:
    adapter, _ = build(arch)
    assert [tap.stride for tap in adapter.taps] == [8, 8, 16, 16, 32, 32]


def test_weights_that_are_not_offered() -> None:
    with pytest.raises(InputError, match=r"model\.weights.*imagenet"):
        plugin.build(spec("yolov8n", "imagenet"))
    with pytest.raises(InputError, match=r"nowhere\.pt"):
        plugin.build(spec("yolov8n", "nowhere.pt"))


def test_without_upstream_the_message_has_the_command_and_the_licence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tlvision_yolo.plugin.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"AGPL-3\.0.*pip install 'ultralytics>=8\.4,<9'"):
        plugin.build(spec("yolov8n", "none"))


@pytest.mark.parametrize("error", [ConnectionError("offline"), None])
def test_coco_weights_that_cannot_be_had(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception | None
) -> None:
    asked: list[str] = []

    def download(name: str) -> str:
        asked.append(name)
        if error is not None:
            raise error
        return name

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tlvision_yolo.build.SETTINGS", {"weights_dir": str(tmp_path / "weights")})
    monkeypatch.setattr("tlvision_yolo.build.attempt_download_asset", download)
    with pytest.raises(InputError, match=r"yolov5nu\.pt.*connected machine.*weights: path/to/yolov5nu\.pt"):
        plugin.build(spec("yolov5n", "coco"))
    assert asked == ["yolov5nu.pt"]


@pytest.mark.parametrize("folder", [".", "weights"])
def test_coco_weights_that_are_there_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: str, build: Any
) -> None:
    def download(name: str) -> str:
        raise AssertionError("the network was tried")

    adapter, _ = build("yolov8n", ("a", "b"))
    (tmp_path / folder).mkdir(exist_ok=True)
    torch.save({"model": adapter.module.half()}, tmp_path / folder / "yolov8n.pt")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tlvision_yolo.build.SETTINGS", {"weights_dir": str(tmp_path / "weights")})
    monkeypatch.setattr("tlvision_yolo.build.attempt_download_asset", download)
    _, report = build("yolov8n", ("a", "b"), "coco")
    assert report.source == "coco"
    assert len(report.loaded) == len(adapter.module.state_dict())


def test_importing_the_plugin_imports_neither_torch_nor_upstream(tmp_path: Path) -> None:
    code = """
import sys
from tlvision_yolo.plugin import plugin
plugin.task_of(plugin.architectures()[0])
print(sorted({"torch", "ultralytics", "cv2"} & set(sys.modules)))
"""
    assert run_python(code, tmp_path).strip() == "[]"


@pytest.mark.slow
def test_building_leaves_the_process_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
import json, os, sys, warnings, logging, socket
assert "ultralytics" not in sys.modules
del os.environ["OMP_NUM_THREADS"]  # which upstream sets where it is not set
import cv2, numpy, torch, torchvision
from PIL import Image
from tlvision.plugin import BuildSpec
from tlvision.types import ClassMap
from tlvision_yolo.plugin import plugin

torch.set_num_threads(3)

def snapshot():
    return {
        "environment": dict(os.environ),
        "warnings": [repr(f) for f in warnings.filters],
        "numpy": repr(numpy.get_printoptions()),
        "torch": repr(vars(torch._tensor_str.PRINT_OPTS)),
        "opencv": cv2.getNumThreads(),
        "threads": torch.get_num_threads(),
        "patches": [id(f) for f in (torch.save, torch.load, cv2.imread, cv2.imshow, Image.open, sys.excepthook)],
        "dtype": repr(torch.get_default_dtype()),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "root logger": [logging.root.level, len(logging.root.handlers)],
        "folder": os.getcwd(),
    }

looked_up = []
socket.getaddrinfo = lambda *a, **k: looked_up.append(a) or []
before = snapshot()
plugin.build(BuildSpec(arch="yolov8n", weights="none", classes=ClassMap.from_names(("a",))))
after = snapshot()
assert "ultralytics" in sys.modules
print(json.dumps([[k for k in before if before[k] != after[k]], looked_up]))
"""
    # Output other than this one line would be upstream's greeting.
    (tmp_path / "script.py").write_text(code)
    monkeypatch.setenv("YOLO_CONFIG_DIR", str(tmp_path))
    done = run_script(tmp_path / "script.py")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], []]
