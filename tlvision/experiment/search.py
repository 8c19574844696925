"""Ways to search for values of a config: all combinations, random ones, successive halving, Optuna."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from tlvision.experiment.file import RangeSettings, SearchSettings
from tlvision.types import InputError

DEFAULT_TRIALS = 20
Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Candidate:
    """Values to try. number: of the candidate, from 0. until: epoch up to which it is trained, None for all."""

    number: int
    values: Values
    until: int | None = None


class Search(Protocol):
    """Asks for candidates in rounds, and gets what they reached."""

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return the candidates of the next round, about `count` if the search may choose; none at its end."""

    def tell(self, found: Mapping[int, float | None]) -> None:
        """Take the results of the last round: number -> value, higher is better, None for one that failed."""


@dataclass(slots=True)
class OneRound:
    """Tries all candidates in one round: a grid, or random draws."""

    candidates: Sequence[Candidate]
    _asked: bool = False

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return all candidates, once."""
        asked, self._asked = self._asked, True
        return () if asked else self.candidates

    def tell(self, found: Mapping[int, float | None]) -> None:
        """Do nothing: no round follows."""


@dataclass(slots=True)
class Halving:
    """Trains all candidates for a few epochs; the best of each round go on for `factor` times as many.

    rounds: epochs at which each round ends; the last is all of them.

    Successive halving (Jamieson and Talwalkar 2016): of n candidates, the best n / factor go on, rounded down, at least
    one. A candidate goes on from its checkpoint, and its schedules are those of all epochs from the start.
    """

    candidates: Sequence[Candidate]
    rounds: Sequence[int]
    factor: int
    _round: int = 0
    _left: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._left = [candidate.number for candidate in self.candidates]

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return those that are left, until the end of this round."""
        if self._round == len(self.rounds) or not self._left:
            return ()
        until = self.rounds[self._round]
        return [Candidate(each.number, each.values, until) for each in self.candidates if each.number in self._left]

    def tell(self, found: Mapping[int, float | None]) -> None:
        """Keep the best; one that failed is never among them."""
        ranked = sorted((-value, number) for number, value in found.items() if value is not None)
        self._left = [number for _, number in ranked][: max(1, len(self._left) // self.factor)]
        self._round += 1


def rounds_of(epochs: int, factor: int, first: int | None) -> list[int]:
    """Return the epochs at which the rounds of halving end.

    Raises InputError if the first round is not shorter than the training.

    >>> rounds_of(60, 3, None), rounds_of(10, 2, 3), rounds_of(2, 3, None)
    ([7, 21, 60], [3, 6, 10], [1, 2])
    """
    if first is not None and first >= epochs:
        raise InputError(f"search.first: {first} epochs are not fewer than train.epochs, {epochs}")
    start = math.ceil(epochs / factor / factor) if first is None else first
    found = []
    while start < epochs:
        found.append(start)
        start *= factor
    return [*found, epochs]


def make_search(settings: SearchSettings, epochs: int, storage: Path) -> Search:
    """Return the search of an experiment.

    epochs: of a whole training. storage: file in which Optuna keeps its study.
    """
    if settings.method == "optuna":
        from tlvision.experiment.optuna_search import OptunaSearch

        return OptunaSearch(settings.space, settings.trials or DEFAULT_TRIALS, settings.seed, storage)
    candidates = [Candidate(number, values) for number, values in enumerate(_candidates(settings))]
    if settings.method != "halving":
        return OneRound(candidates)
    return Halving(candidates, rounds_of(epochs, settings.factor, settings.first), settings.factor)


def _candidates(settings: SearchSettings) -> list[Values]:
    """Return all combinations if there are few enough, else random ones."""
    ranges = settings.space
    lists = [each.values for each in ranges.values()]
    wanted = settings.trials or DEFAULT_TRIALS
    if all(each is not None for each in lists):
        grid: list[Values] = [dict(zip(ranges, values, strict=True)) for values in itertools.product(*lists)]  # type: ignore[arg-type]
        if settings.method == "grid" or settings.trials is None or settings.trials >= len(grid):
            return grid
        chosen = np.random.default_rng(settings.seed).permutation(len(grid))[:wanted]
        return [grid[number] for number in sorted(chosen.tolist())]
    rng = np.random.default_rng(settings.seed)
    return [{key: _draw(each, rng) for key, each in ranges.items()} for _ in range(wanted)]


def _draw(settings: RangeSettings, rng: np.random.Generator) -> Any:
    """Return a random value, of three digits where it is a number."""
    if settings.values is not None:
        return settings.values[int(rng.integers(len(settings.values)))]
    if settings.integer is not None:
        return int(rng.integers(settings.integer[0], settings.integer[1] + 1))
    if settings.log is not None:
        return rounded(math.exp(rng.uniform(math.log(settings.log[0]), math.log(settings.log[1]))))
    assert settings.uniform is not None
    return rounded(rng.uniform(settings.uniform[0], settings.uniform[1]))


def rounded(value: float) -> float:
    """Return a number with three digits, as people write it.

    >>> rounded(0.00123456)
    0.00123
    """
    return float(f"{value:.3g}")
