"""Choose which parameters of a test the fast suite runs."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def first_fast(rows: Iterable[Any], count: int = 1) -> list[Any]:
    """Return rows for `pytest.mark.parametrize`; all but the first `count` are slow tests.

    rows: values, or tuples of them where the test has several parameters; at least `count` + 1.
    """
    found = list(rows)
    assert len(found) > count, "nothing is slow"
    marks = [()] * count + [pytest.mark.slow] * (len(found) - count)
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), marks=mark)
        for row, mark in zip(found, marks, strict=True)
    ]
