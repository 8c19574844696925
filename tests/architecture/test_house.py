"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from launch import run_script
from tlvision.cli.main import VERBS, main
from tlvision.tasks import task_names

assert len(VERBS) >= 9


def modules_after(code: str) -> set[str]:
    """Run `code` in a fresh interpreter and return the names of all modules that are loaded then."""
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nimport sys, json; print(json.dumps(list(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize(
    "code",
    [
        "import tlvision",
        "import tlvision.formats.coco, tlvision.evaluation, tlvision.types, tlvision.plugin, tlvision.conformance",
        "from tlvision.plugin import get_plugin, plugin_names; [get_plugin(n) for n in plugin_names()]",
        "import tlvision.cli.main as m; m.build_parser()",
        "import tlvision.cli.main as m; assert m.main(['plugins']) == 0",
        "import tlvision.config.load as c; c.load_config('quickstart')",
        "import tlvision.bridges",
        "import tlvision.monitoring.monitor, tlvision.monitoring.logged",
    ],
)
def test_what_should_answer_at_once_loads_neither_torch_nor_an_upstream(code: str, repository: Path) -> None:
    loaded = modules_after(f"import os; os.chdir({str(repository)!r})\n{code}")
    assert "tlvision" in loaded
    assert not loaded & {"torch", "ultralytics", "lightning_fabric", "torchvision", "matplotlib", "jinja2"}


@pytest.mark.slow
def test_bridges_load_no_upstream_that_the_user_has_not_loaded() -> None:
    loaded = modules_after(
        "import tlvision.bridges.ultralytics, torch\n"
        "model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))\n"
        "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\n"
        "tlvision.bridges.plain(model, optimizer, ['ema']).__enter__()"
    )
    assert "tlvision.bridges.run" in loaded
    assert not loaded & {"ultralytics", "mmengine", "mmdet", "mmseg", "transformers", "segmentation_models_pytorch"}


def test_import_rules_hold(repository: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).with_name("lint-imports"))],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert "5 kept, 0 broken" in done.stdout


def test_files_are_short_and_import_by_name(repository: Path) -> None:
    files = [*(repository / "tlvision").rglob("*.py"), *(repository / "plugins").rglob("*.py")]
    assert len(files) > 50
    for path in files:
        text = path.read_text()
        assert len(text.splitlines()) <= 400, f"{path} is longer than 400 lines"
        assert not re.search(r"^\s*from .* import \*", text, re.MULTILINE), path
    assert len((repository / "tlvision/training/loop.py").read_text().splitlines()) < 150


def test_plugins_contain_no_scripts(repository: Path) -> None:
    """What trains with upstream's own trainers, for comparison, is in tools/, which is not in the wheel."""
    files = list((repository / "plugins").rglob("*.py"))
    assert len(files) > 50
    assert not [path for path in files if re.search(r"import argparse|__main__", path.read_text())]


def test_the_core_names_no_model_family(repository: Path) -> None:
    """A hook works on every plugin because nothing in the core knows one."""
    names = {"yolo", "ultralytics", "mmdet", "mmcv", "mmseg", "torchvision", "segmentation_models", "toy"}
    # torchvision is a dependency of the core as well, and a plugin's upstream.
    dependency = {"engine/environment.py", "conformance/fresh.py", "conformance/checks/classes.py"}
    dependency |= {"conformance/checks/predictions.py", "inference/unlabelled_metrics.py"}
    dependency |= {"analysis/saliency/overlap.py", "export/torch_session.py"}
    files = list((repository / "tlvision").rglob("*.py"))
    assert len(files) > 80
    for path in files:
        code = re.sub(r'"""[\s\S]*?"""|#.*', "", path.read_text()).lower()
        where = path.relative_to(repository / "tlvision").as_posix()
        known = {"torchvision"} if where in dependency else set()
        formats = {"cli/convert.py", "cli/main.py", "cli/predict.py", "formats/preannotations.py"}
        if where.startswith("formats/exchange/") or where in formats:
            known = {"yolo"}  # a format of labels, which many tools write
        if where in {"bridges/__init__.py", "bridges/ultralytics.py"}:
            known = {"ultralytics", "yolo"}  # the trainer that it is a bridge to, which it does not import
        found = [name for name in names - known if name in code]
        assert not found, f"{path} names {found}"


def test_words_that_the_glossary_replaces_are_gone(repository: Path) -> None:
    """The table of `docs/glossary.md` lists them, with what to write instead."""
    glossary = repository / "docs" / "glossary.md"
    terms, table = glossary.read_text(encoding="utf-8").split("| not | write |\n|---|---|\n")
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", table, re.MULTILINE))
    assert len(rows) >= 10
    # The classes are there so that a plain search finds these three nowhere.
    patterns = ["men[d]", r"what\s+came\s+o[f]", r"said\s+s[o]"]
    patterns += [re.escape(word).replace(r"\ ", r"\s+") for word in rows]
    words = "|".join(patterns)
    places = ("tlvision", "plugins", "tools", "docs", "README.md", "CONTRIBUTING.md")
    files = [path for place in places for path in (repository / place, *(repository / place).rglob("*"))]
    files = [path for path in files if path.suffix in {".py", ".md", ".tmpl", ".yaml"}]
    assert len(files) > 250
    assert glossary in files
    for path in files:
        text = terms if path == glossary else path.read_text(encoding="utf-8")
        found = re.search(rf"\b({words})s?\b", text, re.IGNORECASE)
        assert not found, f"{path}: '{found[0]}'"


def test_tables_and_consoles_are_made_in_one_place(repository: Path) -> None:
    """`tlvision/terminal.py` makes them, so that all tables look alike and no text of a user is read as markup."""
    made: dict[str, set[str]] = {}
    files = [path for place in ("tlvision", "plugins", "tools") for path in (repository / place).rglob("*.py")]
    assert len(files) > 250
    for path in files:
        calls = [node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
        names = {ast.unparse(call).rpartition(".")[2] for call in calls} & {"Table", "Console"}
        if names:
            made[path.relative_to(repository).as_posix()] = names
    assert made == {"tlvision/terminal.py": {"Table", "Console"}}


def test_tasks_are_asked_and_not_compared(repository: Path) -> None:
    """A new task is one object: nothing outside `tasks` and `plugin` branches on a task's name."""
    names = set(task_names())
    files = [path for path in (repository / "tlvision").rglob("*.py") if path.parts[-2] not in {"tasks", "plugin"}]
    assert len(files) > 150
    assert len(names) >= 3
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare | ast.MatchValue):
                constants = {part.value for part in ast.walk(node) if isinstance(part, ast.Constant)}
                assert not constants & names, f"{path}:{node.lineno}: {ast.unparse(node)}"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_is_a_script_in_tools_as_well(
    verb: str, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([verb, "--help"])
    script = run_script(repository / "tools" / f"{verb.replace('-', '_')}.py", "--help")
    assert script.returncode == 0, script.stderr
    assert script.stdout == capsys.readouterr().out
    assert f"usage: tlvision {verb}" in script.stdout
