"""What is measured without labels, against slow loops; and that each measure moves the way it says."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tlvision.inference.unlabelled_metrics import certainty, compare, measure_unlabelled
from tlvision.plugin import BuildSpec, get_plugin
from tlvision.types import ClassMap, Prediction


def say(boxes: list[list[float]], scores: list[float], labels: list[int]) -> Prediction:
    return Prediction(
        boxes=torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        scores=torch.tensor(scores),
        labels=torch.tensor(labels, dtype=torch.int64),
    )


def test_equal_predictions_agree_wholly_and_none_at_all_not() -> None:
    one = [say([[0, 0, 10, 10], [20, 20, 30, 40]], [0.9, 0.4], [0, 1])]
    assert compare(one, one) == pytest.approx(1.0)
    nothing = [say([], [], [])]
    assert compare(nothing, nothing) == 0.0
    assert compare(one, nothing) == 0.0


def test_boxes_agree_by_overlap_and_score() -> None:
    one = [say([[0, 0, 10, 10], [50, 50, 60, 60], [0, 0, 10, 10]], [0.9, 0.5, 0.05], [0, 1, 0])]
    other = [say([[0, 0, 10, 8], [0, 0, 10, 10], [50, 50, 60, 60]], [0.7, 0.6, 0.5], [0, 0, 0])]
    # The first takes its best match; the second is of another class there; the third is too weak to count.
    expected = 2 * (1.0 * 0.6) / ((0.9 + 0.5) + (0.7 + 0.6 + 0.5))
    assert compare(one, other) == pytest.approx(expected)
    far = [say([[0, 0, 10, 4]], [0.9], [0])]
    assert compare(one, far) == 0.0, "an overlap under one half is no match"


def test_label_maps_agree_by_the_mean_over_classes() -> None:
    torch.manual_seed(0)
    one, other = list(torch.rand(3, 4, 6, 5)), list(torch.rand(3, 4, 6, 5))
    values = []
    for c in range(4):
        both = either = 0
        for a, b in zip(one, other, strict=True):
            for y in range(6):
                for x in range(5):
                    in_a, in_b = int(a[:, y, x].argmax()) == c, int(b[:, y, x].argmax()) == c
                    both += in_a and in_b
                    either += in_a or in_b
        values.append(both / either)
    assert compare(one, other) == pytest.approx(sum(values) / 4)
    with pytest.raises(ValueError, match="zip"):
        compare(one, other[:2])


def test_certainty_is_one_minus_the_entropy() -> None:
    sure, unsure = torch.tensor([1.0, 0.0, 0.0])[:, None, None], torch.full((3, 1, 1), 1 / 3)
    assert certainty([sure]) == pytest.approx(1.0)
    assert certainty([unsure]) == pytest.approx(0.0, abs=1e-6)
    scores = [0.9, 0.5, 0.05]
    entropies = [-(s * math.log2(s) + (1 - s) * math.log2(1 - s)) for s in scores[:2]]
    assert certainty([say([[0, 0, 1, 1]] * 3, scores, [0, 0, 0])]) == pytest.approx(1 - sum(entropies) / 2)
    assert certainty([say([], [], [])]) == 0.0


def test_a_single_class_leaves_nothing_to_be_unsure_of() -> None:
    assert certainty([torch.ones(1, 4, 4)]) == 1.0


def test_padding_of_label_maps_counts_nowhere() -> None:
    one = torch.tensor([[[1.0, -1.0]], [[0.0, -1.0]]])  # (2, 1, 2): sure of class 0, and padding
    other = torch.tensor([[[0.9, -1.0]], [[0.1, -1.0]]])
    assert certainty([one]) == pytest.approx(1.0)
    assert compare([one], [other]) == 1.0


class Leftward(nn.Module):
    """Scores class 0 by brightness, and by the column as well if told to: then a mirror changes what it says."""

    def __init__(self, tilt: float) -> None:
        super().__init__()
        self.tilt = nn.Parameter(torch.tensor(tilt))


class LeftwardAdapter:
    def __init__(self, tilt: float) -> None:
        self.module = Leftward(tilt)

    def dense_logits(self, images: Tensor) -> Tensor:
        columns = torch.linspace(-1, 1, images.shape[-1]).expand_as(images[:, 0])
        score = images[:, 0] + self.module.tilt * columns
        return torch.stack([score, -score], dim=1)


def test_a_model_that_looks_at_the_side_is_not_stable() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(2, 3, 8, 12), torch.randn(1, 3, 12, 8)]
    values = [measure_unlabelled(LeftwardAdapter(tilt), batches, None)["stability"] for tilt in (0.0, 0.5, 5.0)]  # type: ignore[arg-type]
    assert values[0] == pytest.approx(1.0)
    assert values[0] > values[1] > values[2]


def test_agreement_is_between_two_sets_of_weights_and_leaves_the_model_as_it_was() -> None:
    torch.manual_seed(0)
    batches = [torch.randn(2, 3, 8, 12)]
    adapter: Any = LeftwardAdapter(0.0)
    assert "agreement" not in measure_unlabelled(adapter, batches, None)
    near = measure_unlabelled(adapter, batches, {"tilt": torch.tensor(0.3)})["agreement"]
    far = measure_unlabelled(adapter, batches, {"tilt": torch.tensor(3.0)})["agreement"]
    assert measure_unlabelled(adapter, batches, {"tilt": torch.tensor(0.0)})["agreement"] == pytest.approx(1.0)
    assert 1 > near > far
    assert float(adapter.module.tilt.detach()) == 0.0


def test_a_detector_is_mirrored_with_its_boxes() -> None:
    torch.manual_seed(0)
    spec = BuildSpec(arch="tiny_detector", weights="none", classes=ClassMap(("a", "b"), (1, 2)), image_size=64)
    adapter, _ = get_plugin("toy").build(spec)
    half = torch.randn(1, 3, 64, 48)
    symmetric = torch.cat([half, half.flip(-1)], dim=-1)  # (1, 3, 64, 96)
    with torch.no_grad():
        for name, parameter in adapter.module.named_parameters():
            if "classify" in name:  # or an untrained head would score everything under 0.1
                parameter.mul_(20 if "weight" in name else 0)
    plain = adapter.module.eval() and adapter.predict(symmetric)
    found = measure_unlabelled(adapter, [symmetric], None)
    x0, y0, x1, y1 = plain[0].boxes.unbind(1)
    mirrored = Prediction(
        boxes=torch.stack([96 - x1, y0, 96 - x0, y1], 1), scores=plain[0].scores, labels=plain[0].labels
    )
    # The mirrored image is the same image, so what is compared is the prediction and its own mirror image.
    assert found["stability"] == pytest.approx(compare(plain, [mirrored]))
    assert 0 < found["stability"] < 1


def test_each_object_is_matched_once() -> None:
    one = [say([[0, 0, 10, 10], [0, 0, 10, 10]], [0.9, 0.8], [0, 0])]
    other = [say([[0, 0, 10, 10]], [0.7], [0])]
    assert compare(one, other) == pytest.approx(2 * 0.7 / (0.9 + 0.8 + 0.7))
