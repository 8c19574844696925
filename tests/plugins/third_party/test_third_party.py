"""A plugin, a hook and a task from outside the repository, installed with pip, train through tools/train.py."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

PYPROJECT = """
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"
[project]
name = "somebody-elses-detector"
version = "0.0.1"
[project.entry-points."tlvision.plugins"]
dots = "somebody_else:plugin"
[project.entry-points."tlvision.hooks"]
weight_watcher = "somebody_else:WeightWatcher"
[project.entry-points."tlvision.tasks"]
centres = "centres:CENTRES"
[tool.setuptools]
py-modules = ["somebody_else", "centres"]
"""

SOURCE = '''
"""A detector that says one box an image, written from the documentation alone."""

import torch
from torch import nn

from tlvision.hooks import ObjectiveHook
from tlvision.plugin import InputSpec, LayerGroup, Tap, WeightReport, tap_features
from tlvision.types import Prediction


class Dots:
    groups = (LayerGroup("stem", "stem", ("0",)), LayerGroup("head", "head", ("4",)))
    taps = (Tap("stem", "0", 8, 8),)

    def __init__(self, classes):
        self.module = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=8, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            nn.Linear(8, 4 + classes)
        )
        self.input_spec = InputSpec(multiple_of=8)

    def loss(self, images, targets):
        out = self.module(images)  # (N, 4 + classes)
        box, cls = out[:, :4].sum() * 0, out[:, 4:].sum() * 0
        size = images.shape[-1]
        for row, target in zip(out, targets):
            if len(target):
                box = box + (row[:4].sigmoid() - target.boxes[0] / size).abs().mean()
                cls = cls + nn.functional.cross_entropy(row[None, 4:], target.labels[:1])
        return {"box": box / len(targets), "cls": cls / len(targets)}

    def features(self, images):
        return tap_features(self.module, self.taps, images)

    def predict(self, images):
        out = self.module(images)
        height, width = images.shape[2:]
        scale = out.new_tensor([width, height, width, height])
        corners = out[:, :4].sigmoid().sort(1).values[:, [0, 1, 2, 3]] * scale
        scores, labels = out[:, 4:].softmax(1).max(1)
        rows = zip(corners.split(1), scores.split(1), labels.split(1))
        return [Prediction(boxes=box, scores=score, labels=label) for box, score, label in rows]


class Plugin:
    name, tasks, upstream, upstream_versions, licence = "dots", ("detect", "centres"), "", "", "MIT"
    capabilities = {}

    def architectures(self):
        return ("one_dot", "one_centre")

    def task_of(self, arch):
        return "detect" if arch == "one_dot" else "centres"

    def build(self, spec):
        from safetensors.torch import load_file
        adapter = Dots(len(spec.classes))
        keys = tuple(adapter.module.state_dict())
        if spec.weights == "none":
            return adapter, WeightReport(source="none", missing=keys)
        adapter.module.load_state_dict(load_file(spec.weights))
        return adapter, WeightReport(source=spec.weights, loaded=keys)


plugin = Plugin()


class WeightWatcher(ObjectiveHook):
    """Pull all weights towards zero."""

    taps = ("stem",)

    def __init__(self, *, strength: float = 0.1) -> None:
        self.strength = strength

    def losses(self, context):
        assert context.step_data.features["stem"].shape[1] == 8
        return {"weights": self.strength * sum(p.square().sum() for p in context.adapter.module.parameters())}
'''


def task_of_the_docs(repository: Path) -> str:
    found = re.search(r"```python\n(.*?)```", (repository / "docs/writing-a-task.md").read_text(), re.DOTALL)
    assert found is not None
    return found[1]


@pytest.mark.slow
def test_it_trains_with_no_edit_to_the_core(tmp_path: Path, tiny_config: dict[str, Any], repository: Path) -> None:
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    (package / "pyproject.toml").write_text(PYPROJECT)
    (package / "somebody_else.py").write_text(SOURCE)
    (package / "centres.py").write_text(task_of_the_docs(repository))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", str(site), str(package)], check=True, stdout=subprocess.PIPE, text=True)
    tiny_config["model"] = {"plugin": "dots", "arch": "one_dot", "weights": "none"}
    tiny_config["hooks"] = ["ema", {"weight_watcher": {"strength": 0.5}}, {"layerwise_lr": {"decay": 0.5}}]
    config = tmp_path / "config.yaml"
    config.write_text(yaml.safe_dump(tiny_config))
    environment = {**os.environ, "PYTHONPATH": str(site)}

    def run(*command: str) -> str:
        done = subprocess.run(
            [sys.executable, *command], capture_output=True, text=True, env=environment, cwd=tmp_path, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    assert "dots" in run(str(repository / "tools/plugins.py"))
    output = run(str(repository / "tools/train.py"), str(config))
    assert "one_dot (dots, MIT)" in output
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    losses = next(line for line in lines if line["kind"] == "step")["losses"]
    assert set(losses) == {"box", "cls", "weight_watcher/weights"}
    ledger = json.loads((tmp_path / "run" / "ledger.json").read_text())["rows"]
    assert {row["group"]: row["lr"] for row in ledger} == {"stem": 0.0005, "head": 0.001}
    assert "bbox" in run(str(repository / "tools/evaluate.py"), "--run", str(tmp_path / "run"))

    tiny_config["model"]["arch"] = "one_centre"
    tiny_config["run"]["report"] = True
    tiny_config["train"] |= {"epochs": 4, "lr": 0.1}
    tiny_config["run"]["out"] = str(tmp_path / "centres")
    config.write_text(yaml.safe_dump(tiny_config))
    assert "distance" in run(str(repository / "tools/train.py"), str(config))
    lines = [json.loads(line) for line in (tmp_path / "centres" / "log.jsonl").read_text().splitlines()]
    distances = [line["metrics"]["centres/distance"] for line in lines if line["kind"] == "evaluation"]
    metrics = json.loads((tmp_path / "centres" / "metrics.json").read_text())
    assert metrics["centres"]["distance"] == min(distances) < max(distances), "less is better"
    assert "<span>distance</span>" in (tmp_path / "centres" / "report.html").read_text()
    assert "distance" in run(str(repository / "tools/evaluate.py"), "--run", str(tmp_path / "centres"))
    images = tiny_config["data"]["val"]["images"]
    run(str(repository / "tools/predict.py"), "--run", str(tmp_path / "centres"), images, "--output", "found")
    assert json.loads((tmp_path / "found" / "predictions.json").read_text())[0]["file_name"]
