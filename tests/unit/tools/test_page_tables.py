"""Tables of the docs are what docs/benchmarks/*.json say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def page_tables(tools: Callable[[str], Any]) -> Any:
    return tools("benchmarks.page_tables")


def test_pages_are_what_the_tables_generate(page_tables: Any, repository: Path) -> None:
    pages = page_tables.update(repository)
    assert len(pages) >= 4
    for path, expected in pages.items():
        assert page_tables.names(expected), f"{path.name} has no table"
        assert path.read_text(encoding="utf-8") == expected, f"{path.name}: run python tools/bench.py tables"


def test_every_json_is_shown_and_says_how_it_was_measured(page_tables: Any, repository: Path) -> None:
    shown = {name for text in page_tables.update(repository).values() for name in page_tables.names(text)}
    files = {path.stem for path in (repository / "docs/benchmarks").glob("*.json")}
    assert len(files) > 20
    assert shown == files - {"recipes"}
    for name in shown:
        content = page_tables.read(repository, name)
        assert re.match(r"\d{4}-\d\d-\d\d|not recorded", content["date"]), name
        assert content["device"], name
        assert all(content["command"]), name


def test_pages_have_no_table_of_numbers_without_a_json(page_tables: Any, repository: Path) -> None:
    for page in page_tables.PAGES:
        if page.startswith("docs/benchmarks"):
            text = re.sub(r"<!-- table: .*?<!-- end -->", "", (repository / page).read_text("utf-8"), flags=re.DOTALL)
            assert not re.findall(r"^\s*\|.*", text, re.MULTILINE), page


@pytest.fixture
def table(page_tables: Any, tmp_path: Path) -> Callable[..., str]:
    (tmp_path / "docs/benchmarks").mkdir(parents=True)

    def write(name: str = "t", **content: Any) -> str:
        content = {"date": "2026-11-29", "device": "a CPU", "command": ["run"], **content}
        (tmp_path / "docs/benchmarks" / f"{name}.json").write_text(json.dumps(content))
        return str(page_tables.block(tmp_path, name, rows_only=True)) if "rows" in content else ""

    return write


def test_cells_are_written_as_their_formats_say(table: Callable[..., str]) -> None:
    rows = [
        ["a", 0.5, [0.25, 0.1, 0.5]],
        {"cells": ["b", 0.4, None], "formats": ["", "+.0%", ""], "bold": [1]},
        ["c", "not measured", [0.3, -0.1]],
    ]
    assert table(columns=["x", "y", "z"], formats=["", ".3f", ".2f"], rows=rows).splitlines() == [
        "| x | y | z |",
        "|---|---|---|",
        "| a | 0.500 | 0.25 (0.10 to 0.50) |",
        "| b | **+40 %** |  |",
        "| c | not measured | 0.30 (-0.10) |",
    ]


def test_cells_of_other_tables_and_of_runs(table: Callable[..., str]) -> None:
    table("other", columns=["arm", "AP"], formats=["", ".3f"], rows=[["a", 0.1], {"cells": ["b", 0.2]}])
    runs = [{"cell": "x", "seed": seed, "ap": seed / 10} for seed in (1, 2)]
    table("recipes", runs=runs)
    cells = [{"table": "other", "row": "b", "column": "AP"}, {"run": {"cell": "x", "seed": 2}, "key": "ap"}]
    assert table(columns=["m", "n"], formats=[".1f", ".2f"], rows=[cells]).splitlines()[2] == "| 0.2 | 0.20 |"
    with pytest.raises(ValueError, match="2 rows fit"):
        table(columns=["m"], rows=[[{"run": {"cell": "x"}, "key": "ap"}]])
    with pytest.raises(ValueError, match="a row has 1 cells"):
        table(columns=["m", "n"], rows=[["a"]])
