"""The jobs of docs/cloud.md are whole files, and their entry commands are commands of tlvision."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tlvision.cli.main import build_parser

PAGE = Path(__file__).resolve().parents[3] / "docs" / "cloud.md"


def block(beginning: str) -> str:
    """Return the one block of the page that begins so."""
    found = [text for text in re.findall(r"^```text\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
             if text.startswith(beginning)]  # fmt: skip
    assert len(found) == 1, beginning
    return str(found[0])


def check(words: list[str]) -> Any:
    """Parse the words of a command of tlvision; argparse ends the test if it cannot."""
    assert words[0] == "tlvision"
    options = build_parser().parse_args(words[1:])
    assert options.set is None or all(re.fullmatch(r"[a-z_.]+=\S+", each) for each in options.set), options.set
    return options


def test_every_recipe_starts_a_training_whose_results_outlive_the_machine(tmp_path: Path) -> None:
    pod = yaml.safe_load(block("apiVersion"))["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    mounted = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert mounted.keys() == {each["name"] for each in pod["volumes"]} >= {"data", "results"}
    assert f"run.out={mounted['results']}/mine" in check(container["command"]).set

    job = json.loads(block("{"))
    how = job["AlgorithmSpecification"]
    assert "run.out=/opt/ml/checkpoints/mine" in check([*how["ContainerEntrypoint"], *how["ContainerArguments"]]).set
    assert job["CheckpointConfig"]["S3Uri"].startswith("s3://")
    channels = [each["ChannelName"] for each in job["InputDataConfig"]]
    assert f"data.train.images=/opt/ml/input/data/{channels[0]}/images" in how["ContainerArguments"]

    azure = yaml.safe_load(block("$schema"))
    names = set(re.findall(r"\$\{\{(inputs|outputs)\.(\w+)\}\}", azure["command"]))
    assert names == {("inputs", "data"), ("outputs", "runs")}
    assert azure["inputs"].keys() == {"data"}
    assert azure["outputs"].keys() == {"runs"}
    check(shlex.split(re.sub(r"\$\{\{\w+\.(\w+)\}\}", r"/\1", azure["command"])))

    pool = yaml.safe_load(block("workerPoolSpecs"))["workerPoolSpecs"]["containerSpec"]
    check([*pool["command"], *pool["args"]])

    script = tmp_path / "job.sh"
    script.write_text(block("#!/bin/bash"))
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    commands = re.findall(r"srun (tlvision .*)", script.read_text())
    assert len(commands) == 2
    assert check(shlex.split(commands[0])).resume == "$RUN"
    check(shlex.split(commands[1]))
