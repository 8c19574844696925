"""Saliency: the formulas, the place of the heat in the original image, masks, shuffled weights, rank correlation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from tlvision.analysis.saliency.d_rise import _similarity, random_masks
from tlvision.analysis.saliency.maps import eigen_cam, grad_cam, hires_cam
from tlvision.analysis.saliency.methods import Method, choose_method
from tlvision.analysis.saliency.sanity import rank_correlation, shuffled_weights
from tlvision.analysis.saliency.subject import Subject, View, find_class, find_objects
from tlvision.data.batches import normalise
from tlvision.data.dataset import fit_image
from tlvision.plugin import Tap
from tlvision.types import ClassMap, ClassThresholds, InputError, InputSpec, Prediction

SIDE, STRIDE = 96, 8


class Spots(nn.Module):
    """The mean brightness of each square of 8 pixels, and a second channel that is constant."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, STRIDE, STRIDE)
        nn.init.constant_(self.patches.weight, 1 / (3 * STRIDE**2))
        nn.init.zeros_(self.patches.weight[1:])
        nn.init.zeros_(self.patches.bias)
        self.patches.bias.data[1] = 0.1

    def forward(self, images: Tensor) -> Tensor:
        return self.patches(images)[:, :1]


class SpotAdapter:
    """A detector for one bright spot: one box around the brightest square, whose brightness is the score."""

    input_spec = InputSpec(multiple_of=32, pad_value=(0, 0, 0))  # darker than the spot
    taps = (Tap("patches", "patches", 2, STRIDE),)

    def __init__(self) -> None:
        self.module = Spots().eval()

    def features(self, images: Tensor) -> dict[str, Tensor]:
        return {"patches": self.module.patches(images)}

    def predict_with_gradients(self, images: Tensor) -> list[Prediction]:
        found = []
        for brightness in self.module(images)[:, 0]:
            y, x = divmod(int(brightness.argmax()), brightness.shape[1])
            box = torch.tensor([[x - 1.0, y - 1.0, x + 2.0, y + 2.0]]) * STRIDE
            labels = torch.zeros(1, dtype=torch.int64)
            found.append(Prediction(boxes=box, scores=brightness.flatten().amax()[None], labels=labels))
        return found

    @torch.no_grad()
    def predict(self, images: Tensor) -> list[Prediction]:
        return self.predict_with_gradients(images)


class SpotSegmenter(SpotAdapter):
    predict_with_gradients = None  # type: ignore[assignment]

    def dense_logits(self, images: Tensor) -> Tensor:
        bright = self.module(images)
        return torch.cat([bright * 0 + 0.3, bright], dim=1)


def spot(place: Sequence[int], size: Sequence[int]) -> np.ndarray:
    """Return a dark image of `size` (height, width) with a white disc of 36 pixels around `place` (x, y)."""
    y, x = np.mgrid[: size[0], : size[1]]
    inside = (x + 0.5 - place[0]) ** 2 + (y + 0.5 - place[1]) ** 2 < 18**2
    return np.where(inside[..., None], 255, 20).astype(np.uint8).repeat(3, axis=2)


def view_of(image: np.ndarray, adapter: Any) -> View:
    canvas, matrix = fit_image(image, adapter.input_spec, SIDE)
    inputs = normalise(torch.from_numpy(canvas).permute(2, 0, 1)[None], adapter.input_spec)
    return View(name="spot", pixels=image, inputs=inputs, matrix=matrix)


def model_of(adapter: Any) -> Any:
    names = ("dark", "bright") if hasattr(adapter, "dense_logits") else ("bright",)
    return SimpleNamespace(
        adapter=adapter, classes=ClassMap.from_names(names), thresholds=ClassThresholds(0.1), fabric=None
    )


@pytest.mark.parametrize("size", [(120, 320), (300, 180)], ids=["wide", "high"])
@pytest.mark.parametrize("part", [(0.15, 0.25), (0.55, 0.45), (0.8, 0.85)], ids=str)
@pytest.mark.parametrize("method", ["eigen_cam", "grad_cam", "hires_cam", "d_rise"])
def test_the_heat_is_where_the_evidence_is(method: str, part: tuple[float, float], size: tuple[int, int]) -> None:
    """On letterboxed images: a shift by a cell of the tap, by the padding or by the scale would move it."""
    adapter = SpotAdapter()
    place = round(part[0] * size[1]), round(part[1] * size[0])
    view = view_of(spot(place, size), adapter)
    subject = find_objects(model_of(adapter), view, None, None)
    assert not isinstance(subject, str)
    chosen = choose_method(adapter, method, None)
    heat, _ = Method(name=chosen.name, tap=chosen.tap, masks=800).heat(adapter, view, subject)
    assert heat is not None
    assert heat.shape == size
    hot = heat > 0.7 * heat.max()
    y, x = np.nonzero(hot)
    cell = max(size) / SIDE * STRIDE
    assert (x.mean() + 0.5, y.mean() + 0.5) == pytest.approx(place, abs=cell * (1 if method == "d_rise" else 0.5))
    assert subject.region is not None
    assert heat[subject.region].mean() > 1.5 * heat.mean()


def test_a_class_of_a_label_map() -> None:
    adapter = SpotSegmenter()
    view = view_of(spot((130, 90), (200, 320)), adapter)
    subject = find_class(model_of(adapter), view, "bright")
    assert not isinstance(subject, str)
    assert subject.region is not None
    assert subject.region[90, 130]
    assert not subject.region[20, 20]
    heat, tap = choose_method(adapter, None, None).heat(adapter, view, subject)
    assert tap is not None
    assert heat is not None
    y, x = np.nonzero(heat > 0.7 * heat.max())
    assert (x.mean(), y.mean()) == pytest.approx((130, 90), abs=14)
    most = find_class(model_of(adapter), view, None)
    assert not isinstance(most, str)
    assert most.class_name == "dark"
    empty = find_class(model_of(adapter), view_of(np.zeros((60, 60, 3), np.uint8), adapter), "bright")
    assert empty == "no pixel is predicted as 'bright'"


def test_the_class_score_is_the_mean_over_its_pixels_within_the_image() -> None:
    adapter = SpotSegmenter()
    view = view_of(spot((130, 90), (200, 320)), adapter)
    subject = find_class(model_of(adapter), view, None)
    assert not isinstance(subject, str)
    assert subject.pixels is not None
    top = int(view.matrix[1, 2])
    assert top > 0
    assert not subject.pixels[:top].any(), "padding is no part of the class"
    assert subject.pixels[top : top + 60].float().mean() > 0.8
    score = subject.score(adapter, view.inputs)
    assert score is not None
    assert float(score.detach()) == pytest.approx(0.3)


def detections(boxes: Sequence[Sequence[float]], scores: Sequence[float], labels: Sequence[int]) -> Prediction:
    return Prediction(boxes=torch.tensor(boxes), scores=torch.tensor(scores), labels=torch.tensor(labels))


def test_a_detection_is_found_again_by_class_and_place() -> None:
    here, there = [0.0, 0.0, 20.0, 20.0], [40.0, 40.0, 60.0, 60.0]
    found = detections([here, here, there], [0.9, 0.6, 0.5], [0, 1, 1])

    class Fixed(SpotAdapter):
        def predict_with_gradients(self, images: Tensor) -> list[Prediction]:
            return [found]

    image = np.zeros((96, 96, 3), np.uint8)
    view = view_of(image, Fixed())
    shown = found.numpy()
    for rows, expected in (([1], 0.6), ([2], 0.5), ([0], 0.9), ([1, 2], 1.1)):
        subject = Subject(text="", shown=shown, objects=found[rows])
        score = subject.score(Fixed(), view.inputs)
        assert score is not None
        assert score.item() == pytest.approx(expected)
    moved = detections([[0.0, 0.0, 20.0, 10.0], here], [0.8, 0.7], [1, 0])
    assert _similarity(found[[1]], moved) == pytest.approx(0.5 * 0.8), "the other class does not count"
    assert _similarity(found[[1, 0]], moved) == pytest.approx(0.5 * 0.8 + 0.7)
    assert _similarity(found, moved[[]]) == 0


def test_methods_that_a_model_cannot_do_are_refused() -> None:
    class Silent(SpotAdapter):
        predict_with_gradients = None  # type: ignore[assignment]

    class Plain:
        taps, module = SpotAdapter.taps, nn.Identity()

    assert choose_method(SpotAdapter(), None, None).name == "hires_cam"
    assert choose_method(SpotSegmenter(), None, None).name == "grad_cam"
    assert choose_method(Plain(), None, None).name == "d_rise"
    for adapter, name, tap, expected in (
        (Plain(), "grad_cam", None, "needs scores with gradients"),
        (SpotSegmenter(), "d_rise", None, "predicts label maps"),
        (SpotAdapter(), "d_rise", "patches", "Remove --tap"),
        (SpotAdapter(), "grad_cam", "patch", "Did you mean 'patches'"),
    ):
        with pytest.raises(InputError, match=expected):
            choose_method(adapter, name, tap)


@pytest.mark.parametrize("cut", ["detached", "no backward pass"])
def test_a_score_without_gradients_is_a_sentence(cut: str) -> None:
    class Forward(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, values: Tensor) -> Tensor:
            return values.clone()

    class Cut(SpotAdapter):
        def predict_with_gradients(self, images: Tensor) -> list[Prediction]:
            (found,) = super().predict_with_gradients(images)
            scores = found.scores.detach() if cut == "detached" else Forward.apply(found.scores)
            return [Prediction(boxes=found.boxes, scores=scores, labels=found.labels)]

    adapter = Cut()
    view = view_of(spot((130, 90), (200, 320)), adapter)
    subject = find_objects(model_of(adapter), view, None, None)
    assert not isinstance(subject, str)
    with pytest.raises(InputError, match=r"hires_cam needs gradients.* Use d_rise or eigen_cam"):
        Method(name="hires_cam").heat(adapter, view, subject)


class Looker(nn.Module):
    """Two queries attend to the patches: the first by brightness, the second by darkness."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 2, STRIDE, STRIDE)
        self.attention = nn.MultiheadAttention(2, 1, batch_first=True)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        nn.init.constant_(self.patches.weight[0], 1 / (3 * STRIDE**2))
        self.patches.bias.data[1] = 1.0
        self.attention.in_proj_weight.data[:2] = torch.eye(2)  # queries
        self.attention.in_proj_weight.data[2, 0] = 20.0  # keys: brightness
        self.attention.in_proj_weight.data[4:] = torch.eye(2)  # values
        self.attention.out_proj.weight.data = torch.eye(2)

    def forward(self, images: Tensor) -> Tensor:
        places = self.patches(images).flatten(2).transpose(1, 2)
        queries = torch.tensor([[[1.0, 0.0], [-1.0, 0.0]]])
        return self.attention(queries, places, places)[0][:, :, 0]


class AttentionAdapter(SpotAdapter):
    taps = ()

    def __init__(self) -> None:
        self.module = Looker().eval()

    def predict_with_gradients(self, images: Tensor) -> list[Prediction]:
        bright, dark = self.module(images)[0]
        boxes = torch.tensor([[0.0, 0.0, 50.0, 50.0], [50.0, 0.0, 96.0, 50.0]])
        scores = torch.stack([bright, dark]) + torch.tensor([0.5, 0.2])
        return [Prediction(boxes=boxes, scores=scores, labels=torch.zeros(2, dtype=torch.int64))]


def test_attention_is_that_of_the_query_of_the_detection() -> None:
    adapter = AttentionAdapter()
    view = view_of(spot((130, 90), (200, 320)), adapter)
    spread = []
    for number in (1, 2):
        subject = find_objects(model_of(adapter), view, None, number)
        assert not isinstance(subject, str)
        heat, _ = choose_method(adapter, "attention", None).heat(adapter, view, subject)
        assert heat is not None
        assert heat.shape == (200, 320)
        spread.append(heat[70:110, 110:150].mean() / heat.mean())
    assert spread[0] > 5
    assert spread[1] < 0.3
    with pytest.raises(InputError, match="no attention maps"):
        choose_method(SpotAdapter(), "attention", None)


def random_features() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(5, 4, 6, generator=generator), torch.randn(5, 4, 6, generator=generator)


def test_grad_cam_and_hires_cam_by_hand() -> None:
    features, gradient = random_features()
    pooled, local = np.zeros((4, 6)), np.zeros((4, 6))
    for channel in range(5):
        pooled += float(gradient[channel].sum() / 24) * features[channel].numpy()
        local += (gradient[channel] * features[channel]).numpy()
    assert grad_cam(features, gradient).numpy() == pytest.approx(np.maximum(pooled, 0), abs=1e-6)
    assert hires_cam(features, gradient).numpy() == pytest.approx(np.maximum(local, 0), abs=1e-6)


@pytest.mark.parametrize("sign", [1, -1])
def test_eigen_cam_is_the_first_principal_component_with_its_peak_up(sign: int) -> None:
    features = sign * random_features()[0]
    features[:, 2, 3] += 9.0
    points = features.numpy().reshape(5, -1).T
    points = points - points.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(points.T))
    projection = (points @ vectors[:, values.argmax()]).reshape(4, 6)
    projection *= np.sign(projection.flat[np.abs(projection).argmax()])
    found = eigen_cam(features).numpy()
    assert found == pytest.approx(np.maximum(projection, 0), abs=1e-4)
    assert np.unravel_index(found.argmax(), found.shape) == (2, 3)


def test_random_masks_hide_half_of_the_image_evenly_and_come_from_the_seed() -> None:
    masks = torch.cat([*random_masks(400, (64, 100), 3)])
    assert masks.shape == (400, 64, 100)
    assert float(masks.min()) >= 0
    assert float(masks.max()) <= 1
    # No place is favoured, and no pixel of the borders is hidden more often.
    assert masks.mean(dim=0).numpy() == pytest.approx(0.5, abs=0.12)
    assert torch.equal(masks, torch.cat([*random_masks(400, (64, 100), 3)]))
    assert not torch.equal(masks, torch.cat([*random_masks(400, (64, 100), 4)]))


def test_shuffled_weights_keep_the_values_and_the_module() -> None:
    module = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    module[1].running_mean.uniform_()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = shuffled_weights(module, 0)
    assert state.keys() == before.keys()
    for name, tensor in before.items():
        assert torch.equal(module.state_dict()[name], tensor)
        assert torch.equal(state[name].flatten().sort().values, tensor.flatten().sort().values)
    assert not torch.equal(state["0.weight"], before["0.weight"])
    assert torch.equal(state["1.running_mean"], before["1.running_mean"])
    again, other = shuffled_weights(module, 0), shuffled_weights(module, 1)
    assert torch.equal(again["0.weight"], state["0.weight"])
    assert not torch.equal(other["0.weight"], state["0.weight"])


@pytest.mark.parametrize("round_to", [lambda values: values, np.round], ids=["distinct", "ties"])
def test_rank_correlation_is_spearmans(round_to: Callable[[np.ndarray], np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    first = round_to(3 * rng.standard_normal((40, 60)))
    second = round_to(first + 3 * rng.standard_normal((40, 60)))
    assert rank_correlation(first, second) == pytest.approx(spearmanr(first.ravel(), second.ravel()).statistic)
    assert rank_correlation(first, np.zeros((40, 60))) is None
    assert rank_correlation(first, first) == 1
