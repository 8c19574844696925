"""Hostile datasets: each is one sentence that names the culprit, or what is skipped is counted and listed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from poison import annotations, file_system, label_maps, masks, pictures, predictions, structure, tools
from poison.dataset import Case
from tlvision.types import InputError

TABLES: tuple[ModuleType, ...] = (structure, annotations, pictures, masks, tools, label_maps, file_system, predictions)
CASES: list[tuple[str, Case]] = [(table.__name__.rpartition(".")[2], case) for table in TABLES for case in table.CASES]


def test_there_are_at_least_120_cases_and_no_empty_table() -> None:
    assert all(table.CASES for table in TABLES)
    names = [(table, case.name) for table, case in CASES]
    assert len(set(names)) == len(names) >= 120


@pytest.mark.parametrize("case", [case for _, case in CASES], ids=[f"{table}: {case.name}" for table, case in CASES])
def test_a_hostile_dataset_is_one_sentence_or_a_counted_note(case: Case, tmp_path: Path) -> None:
    case.build(tmp_path)
    if case.noted:
        notes = case.read(tmp_path)
        assert any(case.words in note for note in notes), notes
        return
    with pytest.raises(InputError) as caught:
        case.read(tmp_path)
    sentence = str(caught.value)
    assert case.words in sentence
    assert "\n" not in sentence
    assert len(sentence) < 1000
