"""Map scores to the share of detections that are right, fitted on half of the images and judged on the other half.

Source: temperature scaling (Guo et al., 2017) and isotonic regression (Zadrozny and Elkan, 2002). Difference: the
scores are those of detections, right at IoU 0.5; one map serves all classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from tlvision.evaluation.calibration import MIN_SCORE, calibration_error
from tlvision.evaluation.matching import Flags, Floats, Matches
from tlvision.types import InputError, counted

Method = Literal["temperature", "isotonic"]
METHODS: tuple[Method, ...] = ("temperature", "isotonic")
PACKAGE = "sklearn"
INSTALL = 'pip install "tlvision[calibration]"'
MIN_DETECTIONS = 50
"""Fewest detections in each half of the images."""
_EDGE = 1e-6

_Scored = tuple[Floats, Flags]


@dataclass(frozen=True, slots=True)
class ScoreMap:
    """A non-decreasing function from score to score.

    temperature: above 0; the score is divided by it as a logit. 1 changes nothing.
    points:      None, or (score, new score) from low to high; straight lines between them replace the temperature.

    >>> ScoreMap(temperature=2.0).of(np.array([0.5, 0.9])).round(3).tolist()
    [0.5, 0.75]
    >>> ScoreMap(points=((0.2, 0.1), (0.6, 0.5))).of(np.array([0.0, 0.4, 0.9])).round(3).tolist()
    [0.1, 0.3, 0.5]
    """

    temperature: float = 1.0
    points: tuple[tuple[float, float], ...] | None = None

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise InputError(f"the temperature must be above 0, got {self.temperature!r}")
        if self.points is not None:
            values = np.array(self.points, np.float64).reshape(-1, 2)  # (K, 2)
            inside = bool(((values >= 0) & (values <= 1)).all())
            if not (len(values) and inside and (np.diff(values, axis=0) >= 0).all()):
                raise InputError("the points must be pairs of numbers from 0 to 1 that do not fall")

    def of(self, scores: Floats) -> Floats:
        """Return the new scores, 0..1, of scores 0..1 of any shape."""
        if self.points is not None:
            found: Floats = np.interp(scores, *np.array(self.points, np.float64).T)
            return found
        logits = _logits(scores) / self.temperature
        return np.asarray(1 / (1 + np.exp(-logits)), np.float64)

    def as_json(self) -> dict[str, Any]:
        """Return it for a JSON file; `from_json` reads it."""
        return {"temperature": self.temperature} if self.points is None else {"points": [list(p) for p in self.points]}

    @classmethod
    def from_json(cls, content: Any) -> ScoreMap:
        """Read what `as_json` returned; InputError if it is something else."""
        try:
            if "points" in content:
                return cls(points=tuple((float(score), float(new)) for score, new in content["points"]))
            return cls(temperature=float(content["temperature"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise InputError(f"expected 'temperature' or 'points' ({type(error).__name__}: {error})") from None


def fit_scores(matches: Matches, method: Method, *, seed: int = 0, least: int = MIN_DETECTIONS) -> dict[str, Any]:
    """Fit a map on half of the images and judge it on the others, at the first IoU threshold of the matches.

    least: fewest detections with a score of `MIN_SCORE` or more in each half; with fewer, nothing is fitted.
    seed:  of the halves.

    Returns for a JSON file: method; images and detections: [fitted, judged]; error: the calibration error of the judged
    half [before, after], None where nothing was fitted; kept: whether it fell; map: `ScoreMap.as_json`, None unless
    kept; note: why it is not kept, "" if it is.

    Raises InputError if scikit-learn is not installed.
    """
    usable = np.flatnonzero((matches.outcome[:, 0] >= 0) & (matches.score >= MIN_SCORE))
    first = np.zeros(len(matches.image_ids), bool)
    first[np.random.default_rng(seed).permutation(len(first))[: len(first) // 2]] = True
    in_first = first[matches.image[usable]]
    fitted, judged = (
        (matches.score[chosen], matches.outcome[chosen, 0]) for chosen in (usable[in_first], usable[~in_first])
    )
    found, error, note = _judge(fitted, judged, method, least)
    return {
        "method": method,
        "images": [int(first.sum()), int((~first).sum())],
        "detections": [len(fitted[0]), len(judged[0])],
        "error": error,
        "kept": found is not None,
        "map": None if found is None else found.as_json(),
        "note": note,
    }


def fitted_in_words(fitted: Mapping[str, Any]) -> str:
    """Return in words what `fit_scores` returned."""
    (fitted_on, judged_on), error = fitted["images"], fitted["error"]
    change = "" if error is None else f", calibration error {error[0]:.3f} before and {error[1]:.3f} after"
    result = "kept, predictions use it" if fitted["kept"] else f"not kept: {fitted['note']}"
    return (
        f"{fitted['method']} map of the scores, fitted on {fitted_on} images, judged on {judged_on}{change}; {result}"
    )


def _judge(
    fitted: _Scored, judged: _Scored, method: Method, least: int
) -> tuple[ScoreMap | None, list[float] | None, str]:
    """Return the map if it is kept, the errors before and after, and why it is not kept."""
    fewest = min(len(fitted[0]), len(judged[0]))
    if fewest < least:
        what = counted(fewest, "detection")
        return None, None, f"{what} of score {MIN_SCORE:g} or more in half of the images, {least} are needed"
    found = _fit(*fitted, method)
    if found is None:
        return None, None, "detections with higher scores are not right more often"
    before, after = (calibration_error(score, judged[1]) for score in (judged[0], found.of(judged[0])))
    assert before is not None
    assert after is not None
    if after < before:
        return found, [before, after], ""
    return None, [before, after], "the calibration error does not fall on the other half of the images"


def _fit(score: Floats, right: Flags, method: Method) -> ScoreMap | None:
    """Return the map, None if no non-decreasing one fits better than a constant."""
    try:
        from sklearn.isotonic import IsotonicRegression
        from sklearn.linear_model import LogisticRegression
    except ImportError:
        raise InputError(f"evaluate.calibration needs scikit-learn: {INSTALL}") from None
    if len(set(right.tolist())) == 1:
        return None
    if method == "temperature":
        model = LogisticRegression(C=np.inf, fit_intercept=False).fit(_logits(score)[:, None], right)  # (D, 1)
        slope = float(model.coef_[0, 0])
        return ScoreMap(temperature=1 / slope) if slope > 0 else None
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(score, right)
    points = zip(curve.X_thresholds_.tolist(), curve.y_thresholds_.tolist(), strict=True)
    found = ScoreMap(points=tuple(points))
    return found if np.ptp(curve.y_thresholds_) > 0 else None


def _logits(scores: Floats) -> Floats:
    clipped = np.clip(np.asarray(scores, np.float64), _EDGE, 1 - _EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped), np.float64)
