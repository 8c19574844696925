from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlvision.cli.main import main
from tlvision.conformance.new_plugin import NOUNS, TASK_FILES, files_of, new_plugin
from tlvision.tasks.registry import built_in_tasks
from tlvision.types import InputError


def test_the_folder_is_whole_and_a_second_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "my_net", "--in", str(tmp_path)]) == 0
    folder = tmp_path / "tlvision-my_net"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file()} == {
        target.format(name="my_net") for target in files_of("detect").values()
    }
    assert "class MyNetPlugin" in (folder / "tlvision_my_net" / "plugin.py").read_text()
    assert not [path for path in folder.rglob("*.*") if path.is_file() and "$" in path.read_text()]
    assert "tlvision check-plugin my_net" in capsys.readouterr().out
    assert main(["new-plugin", "my_net", "--in", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_every_template_is_written() -> None:
    templates = Path(sys.modules[new_plugin.__module__].__file__ or "").with_name("template")
    found = {str(path.relative_to(templates)) for path in templates.rglob("*.tmpl")}
    assert len(found) >= 7
    assert found == {source for task in TASK_FILES for source in files_of(task)}


def test_every_built_in_task_has_templates() -> None:
    tasks = {task.name for task in built_in_tasks()}
    assert tasks
    assert TASK_FILES.keys() == NOUNS.keys() == tasks


@pytest.mark.parametrize("task", TASK_FILES)
def test_a_plugin_of_every_task_builds_a_model_that_trains_and_predicts(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib

    from tlvision.conformance.case import Case

    name = f"fresh_{task}"
    monkeypatch.syspath_prepend(str(new_plugin(name, tmp_path, task=task)))
    case = Case(importlib.import_module(f"tlvision_{name}.plugin").plugin, "tiny")
    assert case.task.name == task
    adapter, _ = case.build()
    case.groups(adapter)
    images, targets = case.batch(adapter, "mixed_empty")
    losses = adapter.loss(images, targets)
    assert all(value.requires_grad and value.isfinite() for value in losses.values())
    adapter.module.eval()
    found = adapter.predict(images)
    assert all((each.masks is not None) == (task == "instance") for each in found)
    assert all((each.semantic is not None) == (task == "semantic") for each in found)


def test_a_task_without_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no template for the task 'instances'.*instance"):
        new_plugin("my_net", tmp_path, task="instances")


@pytest.mark.parametrize("name", ["", "My", "1net", "my-net", "class", "a b", "../x"])
def test_a_name_that_python_cannot_import_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a name of lower-case letters"):
        new_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is a plugin 'toy' already"):
        new_plugin("toy", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("task", TASK_FILES)
def test_installed_with_pip_it_passes_the_kit_as_it_stands(task: str, tmp_path: Path) -> None:
    folder, site = new_plugin("acme", tmp_path, task=task), tmp_path / "site"
    install = [*(sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps")]
    subprocess.run([*install, "--target", str(site), str(folder)], check=True)
    done = subprocess.run(
        [sys.executable, "-m", "tlvision.cli.main", "check-plugin", "acme"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "import_is_light" in done.stdout or "groups_partition" in done.stdout
