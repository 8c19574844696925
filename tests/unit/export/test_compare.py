"""What an export compares: the queries of a graph that chooses them, whatever their order."""

from __future__ import annotations

import numpy as np
import pytest

from tlvision.export.compare import PIXELS, SCORE, _compare_queries
from tlvision.types import RunError


def test_queries_may_change_places_and_not_values() -> None:
    rng = np.random.default_rng(0)
    model = {"boxes": rng.uniform(0, 100, (1, 50, 4)), "scores": rng.uniform(0, 1, (1, 50, 3))}
    order = rng.permutation(50)
    bundle = {name: each[:, order] for name, each in model.items()}
    outputs: dict[str, float] = {}
    _compare_queries(outputs, model, bundle)
    assert outputs == {"model/queries": 0.0}
    bundle["boxes"][0, 0, 0] += 2 * PIXELS  # one of fifty, as at the border of the choice
    _compare_queries(outputs, model, bundle)
    assert outputs == {"model/queries": 0.02}
    bundle["scores"][0, :5, 1] += 2 * SCORE
    with pytest.raises(RunError, match=r"10\.0% of the queries are not those of the model, and 5% are allowed"):
        _compare_queries(outputs, model, bundle)
