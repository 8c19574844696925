from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tlvision.types import ClassMap, InputError, Prediction, Sample, Target, empty_target


def parts(count: int = 2) -> dict[str, np.ndarray]:
    return {
        "boxes": np.zeros((count, 4), np.float32),
        "labels": np.zeros(count, np.int64),
        "crowd": np.zeros(count, bool),
    }


def test_numpy_and_torch_are_both_values() -> None:
    assert len(Target(**parts())) == 2
    assert len(Target(**{name: torch.from_numpy(array) for name, array in parts().items()})) == 2
    assert len(empty_target()) == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"boxes": np.zeros((2, 5), np.float32)}, r"Target\.boxes: expected shape \(M, 4\), got \(2, 5\)"),
        ({"boxes": np.zeros((2, 4))}, r"Target\.boxes: expected dtype float32, got float64"),
        ({"labels": np.zeros(2, np.int32)}, r"Target\.labels: expected dtype int64, got int32"),
        ({"labels": np.zeros(3, np.int64)}, r"one row per object .* boxes 2, labels 3, crowd 2"),
        ({"crowd": [False, False]}, r"Target\.crowd: expected an array or tensor, got list"),
        ({"masks": np.zeros((1, 4, 4), np.uint8)}, r"boxes 2, labels 2, crowd 2, masks 1"),
        ({"semantic": torch.zeros(4, 4)}, r"Target\.semantic: expected dtype int64, got float32"),
    ],
)
def test_a_target_shows_the_expected_and_the_actual(change: dict[str, object], expected: str) -> None:
    with pytest.raises((TypeError, ValueError), match=expected):
        Target(**{**parts(), **change})


def test_a_prediction_checks_itself() -> None:
    good = {"boxes": np.zeros((1, 4), np.float32), "scores": np.ones(1, np.float32), "labels": np.zeros(1, np.int64)}
    assert len(Prediction(**good)) == 1
    with pytest.raises(ValueError, match="boxes 1, scores 2, labels 1"):
        Prediction(**{**good, "scores": np.ones(2, np.float32)})


@pytest.mark.parametrize("library", [np, torch])
def test_objects_of_a_prediction_are_chosen(library: Any) -> None:
    def made(values: Any, dtype: str) -> Any:
        return np.array(values, dtype) if library is np else torch.tensor(values, dtype=getattr(torch, dtype))

    found = Prediction(
        boxes=made([[0, 0, n, n] for n in (1, 2, 3)], "float32"), scores=made([0.75, 0.5, 0.25], "float32"),
        labels=made([0, 1, 1], "int64"), masks=made([[[n]] for n in (1, 0, 1)], "uint8"),
    )  # fmt: skip
    chosen = found[found.labels == 1]
    assert (chosen.boxes[:, 2].tolist(), chosen.masks.tolist()) == ([2, 3], [[[0]], [[1]]])
    assert found[made([2, 0], "int64")].scores.tolist() == [0.25, 0.75]
    assert [len(found[:2]), len(found.above(0.5)), len(found.above(0.0))] == [2, 2, 3]
    assert found.above(made([0.8, 0.25], "float32")).scores.tolist() == [0.5, 0.25], "a threshold for each class"
    copied = found.numpy()
    assert isinstance(copied.masks, np.ndarray)
    assert copied.boxes.tolist() == found.boxes.tolist()
    empty = Prediction.empty(made([[3, 4]], "int64"))
    assert (len(empty), type(empty.boxes), empty.semantic.tolist()) == (0, type(found.boxes), [[3, 4]])
    assert empty.above(0.5).semantic is empty.semantic
    assert len(Prediction.empty()) == 0


def test_a_sample_needs_a_size_and_a_segment_for_each_object() -> None:
    good = {
        "image_id": 7,
        "path": Path("a.jpg"),
        "width": 4,
        "height": 3,
        "target": Target(**parts()),
        "segments": (None, None),
    }
    Sample(**good)
    with pytest.raises(ValueError, match="Sample 7: expected 2 segments, one an object, got 1"):
        Sample(**{**good, "segments": (None,)})
    with pytest.raises(ValueError, match="Sample 7: expected a positive size, got 0 x 3"):
        Sample(**{**good, "width": 0})


def test_class_names_are_the_identity() -> None:
    classes = ClassMap(("cat", "dog", "owl"), (0, 90, 3))
    assert [classes.index(name) for name in classes.names] == [0, 1, 2]
    assert ClassMap.from_json(classes.to_json()) == classes
    with pytest.raises(InputError, match=r"no class 'dgo'\. Did you mean 'dog'"):
        classes.index("dgo")


@pytest.mark.parametrize(
    ("names", "ids", "expected"),
    [
        (("a", "a"), (1, 2), "name a is used for more than one class"),
        (("a", "b"), (1, 1), "id 1 is used for more than one class"),
        (("a",), (1, 2), "1 names but 2 ids"),
        (("a", " "), (1, 2), "an empty class name"),
        (("a", "b\ud83d"), (1, 2), r"half of a surrogate pair in the class name 'b\\ud83d'"),
    ],
)
def test_a_class_map_that_is_ambiguous_is_an_error(names: tuple[str, ...], ids: tuple[int, ...], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        ClassMap(names, ids)
