from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import tlvision
from fast import first_fast
from tlvision.hooks import StepData
from tlvision.hooks.features.discriminators import same_scale
from tlvision.hooks.objectives.domain_adversarial import DomainAdversarial
from tlvision.plugin import InputSpec, InstanceFeatures, LayerGroup, Tap
from tlvision.types import InputError, RunError

TAPS = (Tap("stage.3", "x", 5, 16), Tap("c5", "y", 7, 32))


class Boxless:
    """An adapter as far as the hook looks at it."""

    input_spec = InputSpec(multiple_of=32)

    def __init__(self) -> None:
        self.module = nn.Sequential(nn.BatchNorm2d(3), nn.Sequential(nn.Conv2d(3, 4, 1), nn.Dropout(0.9)))
        self.module[1].eval()

    @property
    def taps(self) -> tuple[Tap, ...]:
        return TAPS

    @property
    def groups(self) -> tuple[LayerGroup, ...]:
        return ()


class WithBoxes(Boxless):
    """Three proposals for the first image, none for the second; features are the model's outputs there."""

    counts = (3, 0)
    pyramid_path = "1"

    def instance_features(
        self,
        images: Tensor,
        boxes: Sequence[Tensor] | None = None,
        *,
        most: int | None = None,
        pyramid: Any = None,
    ) -> list[InstanceFeatures]:
        maps = self.module(images) if pyramid is None else pyramid
        wanted = boxes or [torch.zeros(count, 4)[:most] for count in self.counts]
        return [
            InstanceFeatures(boxes=own, features=each.flatten(1).T[: len(own)])
            for own, each in zip(wanted, maps, strict=True)
        ]


def make_context(adapter: Any, progress: float = 0.3) -> Any:
    generator = torch.Generator().manual_seed(1)
    maps = [
        {tap.name: torch.randn(2, tap.channels, 2, 3, generator=generator, requires_grad=True) for tap in TAPS}
        for _ in range(2)
    ]
    images = [torch.randn(2, 3, 2, 3, generator=generator) for _ in range(2)]
    return SimpleNamespace(
        adapter=adapter,
        progress=progress,
        step_data=StepData(
            batch=None,  # type: ignore[arg-type]
            features=maps[0],
            unlabelled_features=maps[1],
            images=images[0],
            unlabelled=SimpleNamespace(weak=images[1]),  # type: ignore[arg-type]
        ),
    )


def build(adapter: Any, **options: Any) -> DomainAdversarial:
    torch.manual_seed(0)
    hook = DomainAdversarial(**options)
    hook.prepare(adapter)
    return hook


def scores_of(hook: DomainAdversarial, name: str, vectors: Tensor) -> list[float]:
    """Work out (K, C) rows by hand, layer by layer."""
    assert hook.module is not None
    weights = {
        key: value.detach().double().flatten(1) if value.ndim > 1 else value.detach().double()
        for key, value in hook.module[name].state_dict().items()
    }  # type: ignore[index]
    results = []
    for row in vectors.detach().double():
        hidden = [max(0.0, float(w @ row + b)) for w, b in zip(weights["0.weight"], weights["0.bias"], strict=True)]
        results.append(
            float(sum(h * w for h, w in zip(hidden, weights["2.weight"][0], strict=True)) + weights["2.bias"])
        )
    return results


def mean_loss(scores: Sequence[float], domain: int, loss: str) -> float:
    if loss == "least_squares":
        return sum((s - domain) ** 2 for s in scores) / len(scores)
    return sum(-math.log(p if domain else 1 - p) for p in map(sigmoid, scores)) / len(scores)


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def scaled(*domains: Tensor) -> list[Tensor]:
    """Divide by the common root mean square: of the domains' mean squares, the mean."""
    squares = [sum(float(value) ** 2 for value in each.detach().flatten()) / each.numel() for each in domains]
    return [each.detach() / math.sqrt(sum(squares) / 2) for each in domains]


@pytest.mark.parametrize("loss", ["cross_entropy", "least_squares"])
@pytest.mark.parametrize("level", ["pixel", "pooled"])
def test_the_image_loss_is_that_of_a_slow_loop(level: Any, loss: Any) -> None:
    hook = build(Boxless(), taps=["all"], level=level, loss=loss, weight=0.3, hidden=6)
    context = make_context(Boxless())
    losses = hook.losses(context)
    assert hook.taps == ("stage.3", "c5")
    assert [*losses] == ["image"]
    expected = []
    for tap in TAPS:
        both = scaled(context.step_data.features[tap.name], context.step_data.unlabelled_features[tap.name])
        for domain, each in enumerate(both):
            values = each.mean(dim=(2, 3)) if level == "pooled" else each.permute(0, 2, 3, 1).flatten(0, 2)
            expected.append(mean_loss(scores_of(hook, f"at_{tap.name.replace('.', '_')}", values), domain, loss))
    assert losses["image"].item() == pytest.approx(0.3 * sum(expected) / 4, rel=1e-5)


def slope(value: Callable[[], Tensor], tensor: Tensor) -> tuple[float, float]:
    """Return the derivative of `value` along the gradient that `tensor` has, by differences and by autograd."""
    assert tensor.grad is not None
    step = 0.005 * tensor.grad / tensor.grad.norm()
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            tensor += sign * step
            values.append(value().item())
            tensor -= sign * step
    return (values[0] - values[1]) / 2, float((tensor.grad * step).sum())


def test_features_get_the_reversed_gradient_and_the_discriminator_the_true_one() -> None:
    hook = build(Boxless(), weight=0.7, gamma=4.0, hidden=32)
    context = make_context(Boxless(), progress=0.4)
    assert hook.module is not None
    hook.losses(context)["image"].backward()
    factor = 2 / (1 + math.exp(-4.0 * 0.4)) - 1
    for maps in (context.step_data.features, context.step_data.unlabelled_features):
        true, got = slope(lambda: hook.losses(context)["image"], maps["c5"])
        assert abs(true) > 2e-5
        assert got == pytest.approx(-factor * true, rel=0.02)
    for parameter in hook.module.parameters():
        true, got = slope(lambda: hook.losses(context)["image"], parameter)
        assert got == pytest.approx(true, rel=0.02, abs=1e-6)


@pytest.mark.parametrize(("name", "sign"), [("instance", -1), ("consistency", 1)])
def test_boxes_get_the_reversed_gradient_but_consistency_is_no_game(name: str, sign: int) -> None:
    adapter = WithBoxes()
    adapter.module.eval()
    hook = build(adapter, taps=["c5"], weight=0.7, gamma=4.0, hidden=32)
    context = make_context(adapter, progress=0.4)
    assert hook.module is not None
    images = [context.step_data.images.requires_grad_(), context.step_data.unlabelled.weak.requires_grad_()]
    hook.losses(context)[name].backward()
    reached = [
        *images,
        *((context.step_data.features["c5"], context.step_data.unlabelled_features["c5"]) if sign > 0 else ()),
    ]
    for tensor in reached:
        true, got = slope(lambda: hook.losses(context)[name], tensor)
        assert abs(true) > 2e-6
        assert got == pytest.approx(sign * hook.reversal(0.4) * true, rel=0.03)
    for key, parameter in hook.module.named_parameters():
        if key.startswith("at_instance"):
            true, got = slope(lambda: hook.losses(context)[name], parameter)
            assert got == pytest.approx(true, rel=0.03, abs=1e-6)


@pytest.mark.parametrize("size", [1e-3, 1e3])
def test_the_size_of_the_features_does_not_matter_and_wins_nothing(size: float) -> None:
    hook = build(Boxless(), taps=["all"], hidden=8)
    context = make_context(Boxless())
    expected = hook.losses(context)["image"].item()
    for maps in (context.step_data.features, context.step_data.unlabelled_features):
        for name in maps:
            maps[name] = (size * maps[name].detach()).requires_grad_()
    found = hook.losses(context)["image"]
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found.backward()
    for tap in TAPS:
        pair = [maps[tap.name] for maps in (context.step_data.features, context.step_data.unlabelled_features)]
        along = [float((each.grad * each).detach().sum()) for each in pair]
        assert abs(along[0]) > 1e-7
        assert sum(along) == pytest.approx(0, abs=1e-2 * abs(along[0]))


def test_without_any_box_there_is_no_scale() -> None:
    left, right = same_scale(torch.zeros(0, 4, requires_grad=True), torch.full((2, 4), 3.0))
    assert left.shape == (0, 4)
    assert right.flatten().tolist() == pytest.approx([2**0.5] * 8)
    still, _ = same_scale(torch.zeros(2, 4), torch.zeros(0, 4))
    assert bool(still.isfinite().all())


def test_the_ramp_is_the_papers() -> None:
    hook = DomainAdversarial()
    assert hook.reversal(0.0) == 0.0
    assert hook.reversal(0.1) == pytest.approx(0.46212, abs=1e-5)
    assert hook.reversal(1.0) == pytest.approx(0.99991, abs=1e-5)


@pytest.mark.parametrize("loss", ["cross_entropy", "least_squares"])
def test_boxes_are_judged_and_agree_with_their_image(loss: Any) -> None:
    adapter = WithBoxes()
    adapter.module.eval()
    hook = build(adapter, taps=["all"], loss=loss, weight=0.3, hidden=6, proposals=2)
    context = make_context(adapter)
    losses = hook.losses(context)
    assert [*losses] == ["image", "instance", "consistency"]
    squash = sigmoid if loss == "cross_entropy" else float
    instance, consistency = [], []
    maps = [
        scaled(context.step_data.features[tap.name], context.step_data.unlabelled_features[tap.name]) for tap in TAPS
    ]
    rows = scaled(
        *(
            torch.cat([one.features[:2] for one in adapter.instance_features(each)])
            for each in (context.step_data.images, context.step_data.unlabelled.weak)
        )
    )
    for domain in (0, 1):
        scores = scores_of(hook, "at_instance", rows[domain])
        instance.append(mean_loss(scores, domain, loss))
        means = []
        for tap, both in zip(TAPS, maps, strict=True):
            cells = scores_of(hook, f"at_{tap.name.replace('.', '_')}", both[domain][0].flatten(1).T)
            means.append(sum(map(squash, cells)) / len(cells))
        consistency.append(sum(abs(squash(s) - sum(means) / 2) for s in scores) / 2)
    assert losses["instance"].item() == pytest.approx(0.3 * sum(instance) / 2, rel=1e-5)
    assert losses["consistency"].item() == pytest.approx(0.3 * sum(consistency) / 2, rel=1e-4)


def test_boxes_are_pooled_from_the_maps_of_the_passes_that_were_made_anyway() -> None:
    adapter = WithBoxes()
    adapter.module.eval()
    hook = build(adapter, taps=["all"], hidden=6)
    context = make_context(adapter)
    expected = hook.losses(context)
    context.step_data.pyramid, context.step_data.unlabelled_pyramid = (
        adapter.module(context.step_data.images),
        adapter.module(context.step_data.unlabelled.weak),
    )
    adapter.module.register_forward_hook(lambda *_: pytest.fail("the model ran once more"))
    found = hook.losses(context)
    assert {name: value.item() for name, value in found.items()} == {n: value.item() for n, value in expected.items()}


def test_no_proposals_at_all_cost_nothing_and_are_finite() -> None:
    adapter = WithBoxes()
    adapter.counts = (0, 0)
    hook = build(adapter)
    losses = hook.losses(make_context(adapter))
    assert losses["instance"].item() == 0.0
    assert losses["consistency"].item() == 0.0
    sum(losses.values()).backward()  # type: ignore[union-attr]


def test_the_probe_of_a_box_leaves_the_model_as_it_was() -> None:
    adapter = WithBoxes()
    modes = [child.training for child in adapter.module.modules()]
    before = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    hook = build(adapter)
    assert hook.module is not None
    assert hook.module["at_instance"][0].in_features == 4  # type: ignore[index,union-attr]
    assert [child.training for child in adapter.module.modules()] == modes
    assert len(set(modes)) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in adapter.module.state_dict().items())
    assert "at_instance" not in build(adapter, instance="off").module  # type: ignore[operator]


def test_what_the_model_does_not_have_is_said() -> None:
    with pytest.raises(
        InputError, match=r"'domain_adversarial' needs the tap 'c6'.*stage\.3 \(stride 16\), c5 \(stride"
    ):
        build(Boxless(), taps=["c6"])
    with pytest.raises(InputError, match="instance: on needs HasInstanceFeatures"):
        build(Boxless(), instance="on")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target": None}, "'domain_adversarial' learns from unlabelled images. Set data.target"),
        ({"batch": {"labelled": 4}}, "'domain_adversarial' needs unlabelled images in each batch"),
    ],
)
def test_a_run_without_unlabelled_images_is_refused(
    adapt_config: dict[str, Any], change: dict[str, Any], expected: str
) -> None:
    adapt_config["hooks"].append("domain_adversarial")
    adapt_config["data"] |= change
    with pytest.raises(InputError, match=expected):
        tlvision.train(adapt_config)


@pytest.mark.parametrize("kind", first_fast(["adapt_config", "segment_config"]))
def test_a_run_trains_the_discriminators(
    kind: str, request: pytest.FixtureRequest, losses_of: Callable[[Path, str], list[dict[str, float]]]
) -> None:
    config = request.getfixturevalue(kind)
    config["hooks"].append({"domain_adversarial": {"taps": ["coarsest", "finest"]}})
    run = tlvision.train(config).run
    steps = losses_of(run, "domain_adversarial")
    assert len(steps) >= 4
    assert all(set(step) == {"domain_adversarial/image"} and math.isfinite(*step.values()) for step in steps)
    assert "hook.domain_adversarial" in (run / "ledger.json").read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_resumed_run_ends_with_the_same_bits(
    adapt_config: dict[str, Any], assert_resumes: Callable[[dict[str, Any], int], None]
) -> None:
    adapt_config["hooks"].append({"domain_adversarial": {"weight": 1.0}})
    assert_resumes(adapt_config, 4)


def test_a_diverging_discriminator_stops_the_run_and_both_sides_of_the_batch_are_kept(
    adapt_config: dict[str, Any], tmp_path: Path
) -> None:
    adapt_config["hooks"].append({"domain_adversarial": {"weight": 1e39}})  # more than float32 holds
    labelled, unlabelled = (adapt_config["data"]["batch"][name] for name in ("labelled", "unlabelled"))
    with pytest.raises(RunError, match=r"not finite .*domain_adversarial/image inf"):
        tlvision.train(adapt_config)
    saved = load_file(str(next(tmp_path.rglob("offending_batch.safetensors"))))
    assert len(saved["images"]) == labelled
    assert saved["weak"].shape == saved["strong"].shape == (unlabelled, *saved["images"].shape[1:])
    others = json.loads(next(tmp_path.rglob("offending_batch.json")).read_text(encoding="utf-8"))
    assert len(others["unlabelled_image_ids"]) == unlabelled
