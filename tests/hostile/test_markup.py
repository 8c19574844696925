"""Names that look like markup, emoji codes or escapes appear in the terminal as they are."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console
from rich.progress import TextColumn
from rich.table import Table

from tlvision import terminal
from tlvision.cli.main import main

NAMES = ["scratch [deep]", "on[/off]", "[red]", "[/]", ":dog:", "[bold]x[/bold]", "\\[a]", "[link=x]y", "[@click=x]"]
assert NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_console_takes_every_text_literally(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    console = terminal.console(120)
    table = Table(title=f"title {name}")
    table.add_column(f"column {name}")
    table.add_row(f"cell {name}")
    console.print(f"text {name}")
    console.print(table)
    console.rule(f"rule {name}")
    terminal.note(console, f"note of {name}")
    text = capsys.readouterr().out
    for place in ("text", "title", "column", "cell", "rule", "note note of"):
        assert f"{place} {name}" in text


def test_a_run_with_such_class_names_prints_them_and_ends_well(
    tiny_config: dict[str, Any], tiny_dataset: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "data [x]"
    folder.mkdir()
    for name in ("train", "val"):
        content = json.loads((tiny_dataset / f"{name}.json").read_text())
        for row, new in zip(content["categories"], ("scratch [deep]", "on[/off]"), strict=True):
            row["name"] = new
        content["annotations"][0]["bbox"] = [1, 1, 0, 5] if name == "train" else content["annotations"][0]["bbox"]
        (folder / f"{name}[red].json").write_text(json.dumps(content))
        tiny_config["data"][name]["json"] = str(folder / f"{name}[red].json")
    tiny_config["hooks"] = [{"log": {"progress": "lines", "tensorboard": "off"}}]
    tiny_config["run"]["out"] = str(tmp_path / "run[red]")
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tiny_config))
    assert main(["show", str(path)]) == 0
    text = capsys.readouterr().out
    assert "classes: scratch [deep], on[/off]" in text
    assert main(["train", str(path), "--set", "train.epochs=1"]) == 0
    text = capsys.readouterr().out
    for expected in ("scratch [deep]", "on[/off]", "run[red]", "note train[red].json: "):
        assert expected in text.replace("\n", "")
    assert "train[red].json: train[red].json" not in text


def test_only_one_module_makes_consoles(repository: Path) -> None:
    """Elsewhere a name of a class could be read as markup again."""
    files = list((repository / "tlvision").rglob("*.py"))
    assert len(files) > 80
    # Until they use tlvision.terminal as well.
    exempt = {"terminal.py"}
    for path in files:
        name = path.relative_to(repository / "tlvision").as_posix()
        text = path.read_text()
        if name not in exempt:
            assert "Console(" not in text, f"{name} makes a console of its own; use tlvision.terminal.console()"
            assert "[/]" not in text, f"{name} prints markup; use rich.text.Text"
            columns = re.findall(r"TextColumn\([^)]*\)", text)
            assert all("markup=False" in column for column in columns), f"{name}: a TextColumn reads markup"


def test_rich_reads_markup_where_it_is_not_told_otherwise() -> None:
    """What the tests above guard against: without this, they would pass whatever the console does."""
    out = io.StringIO()
    Console(file=out, width=80).print("scratch [red]")
    assert out.getvalue() == "scratch \n"
    assert TextColumn("").markup
