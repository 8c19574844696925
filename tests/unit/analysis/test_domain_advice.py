"""The rules of docs/domain-gap.md, each with a case."""

from __future__ import annotations

import pytest

from tlvision.analysis.domain_gap.advice import TapGap, advise, labels_shifted, largest
from tlvision.evaluation.distances import FeatureGap, Measured


def tap(
    name: str, stride: int, distance: float, *, p: float = 0.002, fresh: bool = False, frechet: float = 1.0
) -> TapGap:
    gap = FeatureGap(Measured(distance, 0.2), Measured(frechet, 0.1), Measured(0.1, 0.0), p, 30, 14)
    return TapGap(name, stride, fresh, gap)


def taps(colours: float, fine: float, coarse: float) -> list[TapGap]:
    return [tap("(colours)", 0, colours), tap("c3", 8, fine), tap("c4", 16, coarse), tap("c5", 32, coarse)]


EQUAL, SHIFTED = Measured(0.05, 0.04), Measured(0.4, 0.05)


def test_little_gap_needs_nothing() -> None:
    text = advise(taps(0.3, 0.3, 0.3), EQUAL)
    assert "Nothing needs to be done" in text
    assert "`" not in text


def test_a_gap_in_colours_and_fine_taps_asks_for_a_change_of_style() -> None:
    text = advise(taps(1.9, 1.5, 0.3), EQUAL)
    for word in ("fourier_style", "colour_statistics", "adabn", "the colours, c3"):
        assert word in text
    assert "domain_adversarial" not in text


def test_a_gap_in_coarse_taps_asks_for_a_teacher() -> None:
    text = advise(taps(0.3, 0.3, 1.9), EQUAL)
    for word in ("large gap", "c4, c5", "`mean_teacher` fits", "`domain_adversarial`) gained nothing"):
        assert word in text
    assert "fourier_style" not in text
    assert "moderate gap" in advise(taps(0.3, 0.3, 1.0), None)
    assert "fourier_style" in advise(taps(1.9, 0.3, 1.9), None)


def test_shifted_classes_warn_of_alignment() -> None:
    text = advise(taps(0.3, 0.3, 1.9), SHIFTED)
    assert "`mean_teacher` fits" in text
    assert "Caution" in text
    assert "0.40, 0.05" in text
    assert "Nothing needs" not in advise(taps(0.3, 0.3, 0.3), SHIFTED)


@pytest.mark.parametrize(("value", "floor", "expected"), [(0.12, 0.11, False), (0.19, 0.1, False), (0.2, 0.1, True)])
def test_class_shares_are_shifted_relative_to_their_floor(value: float, floor: float, expected: bool) -> None:
    assert labels_shifted(Measured(value, floor)) is expected


def test_a_difference_that_may_be_chance_is_no_gap() -> None:
    chance = [tap("c5", 32, 1.9, p=0.3), tap("(colours)", 0, 0.2)]
    assert "Nothing needs to be done" in advise(chance, None)


def test_taps_behind_fresh_weights_are_left_out_unless_there_are_no_others() -> None:
    mixed = [tap("c5", 32, 0.3), tap("decoder", 32, 1.9, fresh=True)]
    assert "Nothing" in advise(mixed, None)
    assert largest(mixed).name == "c5"
    alone = [tap("(colours)", 0, 0.3), tap("decoder", 32, 1.9, fresh=True)]
    assert "never trained" in advise(alone, None)
    assert largest(alone).name == "decoder"


def test_the_largest_gap_is_told_by_frechet_where_a_classifier_is_always_right() -> None:
    assert largest([tap("c3", 8, 1.0), tap("c5", 32, 2.0, frechet=2.0), tap("c4", 16, 2.0, frechet=3.0)]).name == "c4"


def test_the_first_stage_of_a_dilated_model_is_fine_and_a_single_stride_is_coarse() -> None:
    dilated = [tap("(colours)", 0, 0.2), tap("c2", 4, 1.9), tap("c3", 8, 0.3), tap("c5", 8, 0.3)]
    assert "a gap in c2, and little in the coarse taps (c3, c5)" in advise(dilated, None)
    assert "coarse taps (c4)" in advise([tap("(colours)", 0, 0.2), tap("c4", 16, 1.9)], None)
    middle = [tap("c2", 4, 0.3), tap("c3", 8, 1.9), tap("c5", 32, 0.3)]
    assert "a gap in c3, and little in the coarse taps (c5)" in advise(middle, None)


def test_what_a_classifier_tells_apart_better_is_larger_whatever_frechet_says() -> None:
    assert largest([tap("c4", 16, 1.0, frechet=30.0), tap("c5", 32, 1.9, frechet=2.0)]).name == "c5"
