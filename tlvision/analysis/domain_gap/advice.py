"""Recommend adaptation objectives for a measured domain gap, by the rules of docs/domain-gap.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlvision.evaluation.distances import FeatureGap, Measured

LITTLE = 0.25
"""A tap whose A-distance is less than a quarter of the way from its floor to 2 needs no method."""
LARGE = 0.75
_SURE = 0.05
_CLASSES = 0.1


@dataclass(frozen=True, slots=True)
class TapGap:
    """Distances between two domains at one tap.

    name, stride: of the tap; stride 0 for the colours of the images themselves, which come from no model.
    uninitialised: whether its features depend on untrained weights.
    gap:          the distances.
    """

    name: str
    stride: int
    uninitialised: bool
    gap: FeatureGap

    def apart(self) -> bool:
        """Return whether the two sets differ here: by size (`LITTLE`) and beyond chance (p < 0.05)."""
        return self.gap.share() >= LITTLE and self.gap.p_value < _SURE


def advise(taps: Sequence[TapGap], classes: Measured | None) -> str:
    """Return a paragraph that locates the gap and names the objectives that fit it.

    taps:    what was measured, the colours (stride 0) among them; taps behind fresh weights are left out, unless there
             are no others.
    classes: shift of the class shares of the predictions (`class_shift`); None if it was not measured.

    Rules, in `docs/domain-gap.md`: a tap is coarse where its stride is at least half of the largest and not the
    smallest of several, else fine.
    """
    used = trained(taps)
    coarse = _coarse(used)
    fine = [tap for tap in used if tap not in coarse]
    shifted = classes is not None and labels_shifted(classes)
    high, low = [tap for tap in coarse if tap.apart()], [tap for tap in fine if tap.apart()]
    parts = [_where(high, low, coarse)]
    if high:
        parts.append(_for_coarse(shifted))
        if low:
            parts.append(
                f"As {_names(low)} differ too, add one of `fourier_style` and `colour_statistics`, and try "
                "`adabn` first: it costs no training."
            )
    elif low:
        parts.append(
            "The images differ in appearance, not in content: `fourier_style`, `colour_statistics` or `adabn` fit; "
            "aligning coarse features is not needed."
        )
    elif not shifted:
        parts.append("Nothing needs to be done: train on A, and see on B.")
    if classes is not None and shifted:
        parts.append(_labels(classes, bool(high)))
    if all(tap.uninitialised for tap in used if tap.stride):
        parts.append("All of it was seen through weights that were never trained: take it as a hint, and give weights.")
    return " ".join(parts)


def trained(taps: Sequence[TapGap]) -> list[TapGap]:
    """Return the taps that depend on trained weights only; all taps if the model has none of that kind."""
    kept = [tap for tap in taps if not tap.uninitialised]
    return kept if any(tap.stride for tap in kept) else list(taps)


def largest(taps: Sequence[TapGap]) -> TapGap:
    """Return the model's tap with the largest gap: by `share` to a tenth, among equals by Fréchet distance over floor.

    A tenth, because one image of sixty that is misclassified is a share of 0.03, and most taps are at the ceiling.
    """
    candidates = [tap for tap in trained(taps) if tap.stride]
    return max(candidates, key=lambda tap: (round(tap.gap.share(), 1), tap.gap.frechet.times()))


def labels_shifted(classes: Measured) -> bool:
    """Return whether class shares differ by more than twice what halves of one set differ, and by 0.1 beyond it."""
    return classes.value >= max(2 * classes.floor, classes.floor + _CLASSES)


def _coarse(taps: Sequence[TapGap]) -> list[TapGap]:
    strides = {tap.stride for tap in taps if tap.stride}
    # Dilated models go from 4 to 8 and no further: their first stage is fine all the same.
    finest = min(strides) if len(strides) > 1 else 0
    return [tap for tap in taps if tap.stride > finest and 2 * tap.stride >= max(strides)]


def _where(high: Sequence[TapGap], low: Sequence[TapGap], coarse: Sequence[TapGap]) -> str:
    if high:
        size = "large" if max(tap.gap.share() for tap in high) >= LARGE else "moderate"
        return f"There is a {size} gap in the coarse taps ({_names(high)})."
    if low:
        return f"There is a gap in {_names(low)}, and little in the coarse taps ({_names(coarse)})."
    return "The gap is small: no tap separates A and B much better than two halves of one of them."


def _for_coarse(shifted: bool) -> str:
    if shifted:
        return "`mean_teacher` fits, and `masked_consistency` on top of it."
    return (
        "`mean_teacher` fits, and `masked_consistency` on top of it. Feature alignment (`mmd`, `coral`, "
        "`domain_adversarial`) gained nothing on the real pairs that were measured (docs/benchmarks-adaptation.md)."
    )


def _labels(classes: Measured, high: bool) -> str:
    text = (
        f"Caution: the classes that the model predicts have other shares in A and in B (total variation "
        f"{classes.value:.2f}, {classes.floor:.2f} between halves of one side)."
    )
    if not high:
        return f"{text} Either B has other content, or the model fails on it: inspect its predictions first."
    return (
        f"{text} Where B truly holds other things, features that are made equal (`domain_adversarial`, `mmd`, `coral`) "
        "are made wrong; prefer `mean_teacher`, with thresholds per class."
    )


def _names(taps: Sequence[TapGap]) -> str:
    return ", ".join(tap.name if tap.stride else "the colours" for tap in taps)


def as_json(tap: TapGap) -> Mapping[str, object]:
    """Return one tap in the form of `domain_gap.json`; every number as in `FeatureGap`."""
    gap = tap.gap
    return {
        "tap": tap.name,
        "stride": tap.stride,
        "fresh_weights": tap.uninitialised,
        **{
            name: {"value": measured.value, "floor": measured.floor}
            for name, measured in (("a_distance", gap.a_distance), ("frechet", gap.frechet), ("mmd", gap.mmd))
        },
        "share": gap.share(),
        "p_value": gap.p_value,
        "subset": gap.size,
        "components": gap.components,
    }
