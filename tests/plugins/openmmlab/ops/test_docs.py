"""docs/mmcv-ops.md lists the operators that there are, and those that there are not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tlvision_openmmlab.mmcv_ops import OPERATORS
from tlvision_openmmlab.mmcv_ops.uncovered import UNCOVERED


@pytest.fixture
def tables(repository: Path) -> list[dict[str, list[str]]]:
    """Each table of the page as operator -> the other cells of its row."""
    page = (repository / "docs" / "mmcv-ops.md").read_text(encoding="utf-8")
    found = []
    for block in re.findall(r"^\|---.*\n((?:\|.*\n)+)", page, flags=re.MULTILINE):
        rows = [[cell.strip() for cell in line.strip("| ").split(" | ")] for line in block.splitlines()]
        names = [(name, cells[1:]) for cells in rows for name in re.findall(r"`(\w+)`", cells[0])]
        assert len(dict(names)) == len(names), "an operator is in two rows"
        found.append(dict(names))
    assert len(found) == 2
    return found


def test_the_first_table_has_every_operator_and_what_does_its_work(tables: list[dict[str, list[str]]]) -> None:
    assert set(tables[0]) == set(OPERATORS)
    assert all(len(cells) == 3 and all(cells) for cells in tables[0].values())


def test_the_second_table_has_every_operator_that_is_not_covered_and_its_models(
    tables: list[dict[str, list[str]]],
) -> None:
    assert {name: cells[0] for name, cells in tables[1].items()} == dict(UNCOVERED)
