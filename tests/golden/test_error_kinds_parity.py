"""Kinds of errors and their costs equal those that tidecv 1.0.1 found in the same detections."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tlvision.evaluation import average_precision
from tlvision.evaluation.error_kinds import KINDS, error_kinds
from tlvision.evaluation.matching import match
from tlvision.evaluation.read import read_ground_truth, read_predictions

RECORD = runpy.run_path(str(Path(__file__).with_name("record_tidecv.py")))
RECORDED = json.loads(RECORD["FILE"].read_text(encoding="utf-8"))


def test_every_kind_occurs_in_the_record() -> None:
    assert len(RECORDED) == len(RECORD["SEEDS"]) == 6
    assert all(row[kind]["count"] >= 10 and row[kind]["AP50_lost"] > 0 for row in RECORDED for kind in KINDS)


@pytest.mark.parametrize("seed", RECORD["SEEDS"])
def test_numbers_and_costs_are_the_published_ones(seed: int, write_files: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # pycocotools and we have numpy's linspace, the package n / 100: some of these floats differ by a rounding.
    monkeypatch.setattr(average_precision, "RECALLS", np.arange(101) / 100)
    files = write_files(*RECORD["dataset"](seed))
    objects = read_ground_truth(files[0])
    found, expected = error_kinds(match(objects, read_predictions(files[1], objects))), RECORDED[seed]
    assert found["AP50"] == pytest.approx(expected["AP50"], abs=1e-9)
    assert {kind: found[kind]["count"] for kind in KINDS} == {kind: expected[kind]["count"] for kind in KINDS}
    for kind in (*KINDS, "false_positives", "false_negatives"):
        assert found[kind]["AP50_lost"] == pytest.approx(expected[kind]["AP50_lost"], abs=1e-9), kind
