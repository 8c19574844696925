"""`model.options`: what is taken and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tlvision.plugin.class_weights import weights_in_order
from tlvision.types import InputError
from tlvision_smp.options import SmpOptions


def test_defaults() -> None:
    options = SmpOptions()
    assert options.losses == {"cross_entropy": 1.0, "dice": 1.0}
    assert (options.label_smoothing, options.class_weights) == (0.0, None)
    options.losses["focal"] = 1.0
    assert "focal" not in SmpOptions().losses


@pytest.mark.parametrize(
    "given",
    [
        {"losses": {}},
        {"losses": {"dise": 1.0}},
        {"losses": {"dice": 0.0}},
        {"losses": {"dice": float("inf")}},
        {"losses": {"dice": "1"}},
        {"label_smoothing": 1.0},
        {"label_smoothing": -0.1},
        {"losses": {"dice": 1.0}, "label_smoothing": 0.1},
        {"losses": {"lovasz": 1.0}, "class_weights": [1.0, 2.0]},
        {"class_weights": [1.0, 0.0]},
        {"class_weights": {"a": -1.0}},
        {"dropout": 0.1},
    ],
)
def test_refused(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        SmpOptions(**given)


def test_options_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        SmpOptions().label_smoothing = 0.1  # type: ignore[misc]


def test_class_weights_by_name_and_in_order() -> None:
    assert weights_in_order(None, ["a", "b"]) is None
    assert weights_in_order([2, 0.5], ["a", "b"]) == (2.0, 0.5)
    assert weights_in_order({"c": 4.0}, ["a", "b", "c"]) == (1.0, 1.0, 4.0)


def test_class_weights_that_do_not_fit(build: Any) -> None:
    with pytest.raises(InputError, match=r"no class 'bee'\. Did you mean 'bees'"):
        build(names=["ant", "bees"], class_weights={"bee": 2.0})
    with pytest.raises(InputError, match="expected 2 values, one for each of ant, bees, got 3"):
        build(names=["ant", "bees"], class_weights=[1.0, 2.0, 3.0])
