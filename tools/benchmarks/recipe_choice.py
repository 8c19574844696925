"""Choose a default recipe by leaving one source of images out; numbers only, no training.

A recipe is chosen on the held-out training images of the other sources and judged on val of the source left out. Val
scores take no part in a choice.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

Scores = Mapping[str, Mapping[str, Sequence[float]]]
"""Recipe -> cell -> AP of each seed on the held-out images."""
CRITERIA = ("relative", "rank")


@dataclass(frozen=True, slots=True)
class Choice:
    """The recipe chosen without one source.

    left_out: the source that took no part.
    recipe:   with the best mean over the other sources.
    means:    recipe -> that mean: of the AP as a share of the best in its cell (0..1), or of the negative rank.
    """

    left_out: str
    recipe: str
    means: Mapping[str, float]


def leave_one_out(scores: Scores, sources: Mapping[str, str], criterion: str = "relative") -> list[Choice]:
    """Return one choice for each source.

    scores:    AP on held-out training images; seeds are averaged. Every recipe needs every cell.
    sources:   cell -> source of its images. Cells of a source are averaged first, so that each source counts once.
    criterion: "relative" (AP / best AP in the cell) or "rank" (1 is best; ties share the mean rank).

    Raises ValueError if a recipe lacks a cell, or if there are fewer than two sources.

    >>> scores = {"a": {"x": [0.9], "y": [0.1]}, "b": {"x": [0.3], "y": [0.2]}}
    >>> [(choice.left_out, choice.recipe) for choice in leave_one_out(scores, {"x": "x", "y": "y"})]
    [('x', 'b'), ('y', 'a')]
    """
    names = sorted(set(sources.values()))
    if len(names) < 2:
        raise ValueError("leaving one source out needs at least two sources")
    for recipe, cells in scores.items():
        if lacking := sorted(sources.keys() - cells.keys()):
            raise ValueError(f"'{recipe}' has no result for {', '.join(lacking)}; run it first")
    grade = {"relative": relative, "rank": ranks}[criterion]
    graded = {cell: grade({recipe: statistics.mean(scores[recipe][cell]) for recipe in scores}) for cell in sources}
    by_source = {
        (recipe, name): statistics.mean(graded[cell][recipe] for cell in sources if sources[cell] == name)
        for recipe in scores
        for name in names
    }
    choices = []
    for left_out in names:
        means = {
            recipe: statistics.mean(by_source[recipe, name] for name in names if name != left_out) for recipe in scores
        }
        choices.append(Choice(left_out, max(means, key=lambda recipe: means[recipe]), means))
    return choices


def relative(aps: Mapping[str, float]) -> dict[str, float]:
    """Return each AP as a share of the best, 0..1; all 1 if none is above 0.

    >>> relative({"a": 0.2, "b": 0.4})
    {'a': 0.5, 'b': 1.0}
    """
    best = max(aps.values())
    return {name: ap / best if best > 0 else 1.0 for name, ap in aps.items()}


def ranks(aps: Mapping[str, float]) -> dict[str, float]:
    """Return the negative rank of each AP, -1 for the best; ties share the mean of their ranks.

    >>> ranks({"a": 0.2, "b": 0.4, "c": 0.2})
    {'a': -2.5, 'b': -1.0, 'c': -2.5}
    """
    values = list(aps.values())
    above = {name: sum(value > ap for value in values) for name, ap in aps.items()}
    return {name: -(above[name] + (values.count(ap) + 1) / 2) for name, ap in aps.items()}


def follow_rule(
    rule: Callable[[str, int], str], scores: Scores, cells: Sequence[str], seeds: Sequence[int]
) -> dict[str, list[float]]:
    """Return the scores of a rule: in each cell and seed those of the recipe that `rule(cell, seed)` names."""
    return {cell: [scores[rule(cell, seed)][cell][position] for position, seed in enumerate(seeds)] for cell in cells}
