"""Search with Optuna's TPE sampler (extra `optuna`); its study lies in the experiment's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tlvision.experiment.file import RangeSettings
from tlvision.experiment.search import Candidate
from tlvision.types import InputError


class OptunaSearch:
    """Asks Optuna for candidates; a study that the folder holds already is gone through again, then continued.

    space:   keys and what is tried for them. trials: number of candidates. seed: of the sampler.
    storage: file of the study (`JournalFileBackend`), which optuna-dashboard reads too.
    """

    def __init__(self, space: Mapping[str, RangeSettings], trials: int, seed: int, storage: Path) -> None:
        try:
            import optuna
            from optuna.storages.journal import JournalFileBackend
        except ImportError:
            raise InputError('search.method: optuna is not installed. Do: pip install "tlvision[optuna]"') from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(
            storage=optuna.storages.JournalStorage(JournalFileBackend(str(storage))),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
        )
        self._sampler = optuna.samplers.TPESampler
        self._states = optuna.trial.TrialState
        self._space, self._trials, self._seed, self._next = space, trials, seed, 0

    def ask(self, count: int) -> Sequence[Candidate]:
        """Return those of the study that were asked for before, or up to `count` new ones."""
        known = self._study.get_trials(deepcopy=False)[self._next : self._trials]
        new = 0 if known else min(count, self._trials - self._next)
        found = [Candidate(each.number, self._values(each.params)) for each in known]
        for number in range(self._next, self._next + new):
            self._study.sampler = self._sampler(seed=self._seed + number)  # the same again after a kill
            trial = self._study.ask()
            for key, settings in self._space.items():
                _suggest(trial, key, settings)
            found.append(Candidate(trial.number, self._values(trial.params)))
        self._next += len(found)
        return found

    def tell(self, found: Mapping[int, float | None]) -> None:
        """Hand the results to the study."""
        open_ = {each.number for each in self._study.get_trials(deepcopy=False) if not each.state.is_finished()}
        for number in sorted(open_ & found.keys()):
            if found[number] is None:
                self._study.tell(number, state=self._states.FAIL)
            else:
                self._study.tell(number, found[number])

    def _values(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        return {
            key: json.loads(value) if self._space[key].values is not None else value
            for key, value in parameters.items()
        }


def _suggest(trial: Any, key: str, settings: RangeSettings) -> None:
    if settings.values is not None:
        trial.suggest_categorical(key, [json.dumps(value) for value in settings.values])
    elif settings.integer is not None:
        trial.suggest_int(key, *settings.integer)
    else:
        trial.suggest_float(key, *(settings.log or settings.uniform or ()), log=settings.log is not None)
