from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.ops import FrozenBatchNorm2d

import tlvision
from fast import first_fast
from tlvision.engine import train as runs
from tlvision.hooks import Context, ObserverHook
from tlvision.hooks.observers.adabn import Adabn
from tlvision.types import InputError


class TwoNorms:
    """A net with two batch norms, dropout and a frozen norm; `predict` notes what mode it ran in."""

    def __init__(self, second: Callable[[int], nn.Module] = nn.BatchNorm2d) -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(
            nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1), nn.ReLU(), second(2), nn.Sequential(nn.Dropout(0.5))
        )
        for buffer in self.module.buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape) + 0.5)
        self.module[2].eval()
        self.grad = True
        self.training: set[bool] = set()

    def predict(self, images: Tensor) -> None:
        self.training |= {child.training for child in self.module.modules()}
        self.grad = self.module(images).requires_grad


def batches(sizes: tuple[int, ...] = (3, 1, 4)) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return [2 + 3 * torch.randn(size, 3, 4 + size, 5, generator=generator) for size in sizes]


def make_context(adapter: TwoNorms, images: list[Tensor]) -> Any:
    def loaded() -> Iterator[Tensor]:
        torch.rand(3)  # as a DataLoader does
        yield from images

    return SimpleNamespace(adapter=adapter, unlabelled_batches=loaded)


def channels(images: list[np.ndarray]) -> np.ndarray:
    """All values of each channel, (C, values)."""
    return np.concatenate([each.transpose(1, 0, 2, 3).reshape(each.shape[1], -1) for each in images], axis=1)


@pytest.mark.parametrize("momentum", [1.0, 0.25])
@pytest.mark.parametrize("second", [nn.BatchNorm2d, FrozenBatchNorm2d, nn.SyncBatchNorm])
def test_statistics_are_those_of_numpy_over_all_images(second: Any, momentum: float) -> None:
    adapter = TwoNorms(second)
    weights = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    found = Adabn(momentum=momentum).adapt_weights(make_context(adapter, batches()), weights)
    images = [each.double().numpy() for each in batches()]

    def mixed(values: np.ndarray, layer: str) -> tuple[np.ndarray, np.ndarray]:
        source = [weights[f"{layer}.{name}"].double().numpy() for name in ("running_mean", "running_var")]
        target = values.mean(axis=1), values.var(axis=1, ddof=1)
        mean, variance = ((1 - momentum) * s + momentum * t for s, t in zip(source, target, strict=True))
        return mean, variance

    mean, variance = mixed(channels(images), "0")
    np.testing.assert_allclose(found["0.running_mean"], mean, rtol=1e-5)
    np.testing.assert_allclose(found["0.running_var"], variance, rtol=1e-5)

    inner = []  # each batch normalised with what was known by then, then convolved
    scale, shift = (weights[f"0.{name}"].double().numpy() for name in ("weight", "bias"))
    kernel, bias = weights["1.weight"][:, :, 0, 0].double().numpy(), weights["1.bias"].double().numpy()
    for number, image in enumerate(images):
        mean, variance = mixed(channels(images[: number + 1]), "0")
        values = (image.transpose(0, 2, 3, 1) - mean) / np.sqrt(variance + 1e-5) * scale + shift
        inner.append(np.maximum(values @ kernel.T + bias, 0).transpose(0, 3, 1, 2))
    mean, variance = mixed(channels(inner), "3")
    np.testing.assert_allclose(found["3.running_mean"], mean, rtol=1e-4)
    np.testing.assert_allclose(found["3.running_var"], variance, rtol=1e-4)
    same = [name for name in weights if not name.endswith(("running_mean", "running_var"))]
    assert len(same) >= 6
    assert all(torch.equal(found[name], weights[name]) for name in same)


def test_the_model_the_weights_and_the_generator_are_left_as_they_were() -> None:
    adapter = TwoNorms()
    module = adapter.module
    before = {name: value.clone() for name, value in module.state_dict().items()}
    tensors = {name: id(value) for name, value in (*module.named_parameters(), *module.named_buffers())}
    modes = [child.training for child in module.modules()]
    offered = {name: value + 1 for name, value in before.items()}  # an average, say
    copies = {name: value.clone() for name, value in offered.items()}
    random = torch.get_rng_state()
    found = Adabn().adapt_weights(make_context(adapter, batches()), offered)
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert {name: id(value) for name, value in (*module.named_parameters(), *module.named_buffers())} == tensors
    assert [child.training for child in module.modules()] == modes
    assert len(set(modes)) == 2
    assert all(torch.equal(value, copies[name]) for name, value in offered.items())
    own = {value.data_ptr() for value in found.values()}
    assert own.isdisjoint(value.data_ptr() for value in (*offered.values(), *module.state_dict().values()))
    assert torch.equal(found["1.weight"], offered["1.weight"]), "the average, not the model"
    other = TwoNorms()
    other.module.load_state_dict(copies)
    alone = Adabn().adapt_weights(make_context(other, batches()), copies)
    assert all(torch.equal(value, alone[name]) for name, value in found.items())
    assert not adapter.grad
    assert adapter.training == {False}
    assert not any(child._forward_pre_hooks for child in module.modules())


def test_the_model_is_restored_after_an_error_as_well() -> None:
    adapter = TwoNorms()
    before = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    with pytest.raises(RuntimeError):
        Adabn().adapt_weights(
            make_context(adapter, [*batches(), torch.zeros(1, 9, 2, 2)]), {n: v + 1 for n, v in before.items()}
        )
    assert all(torch.equal(value, before[name]) for name, value in adapter.module.state_dict().items())
    assert adapter.module.training


def test_live_weights_may_be_offered() -> None:
    adapter = TwoNorms()
    before = {name: value.clone() for name, value in adapter.module.state_dict().items()}
    found = Adabn().adapt_weights(make_context(adapter, batches()), adapter.module.state_dict())
    assert all(torch.equal(value, before[name]) for name, value in adapter.module.state_dict().items())
    assert not torch.equal(found["0.running_mean"], before["0.running_mean"])


def test_one_value_a_channel_has_no_variance_and_none_has_no_statistics() -> None:
    adapter = TwoNorms()
    weights = adapter.module.state_dict()
    for images in ([torch.ones(1, 3, 1, 1)], [torch.ones(0, 3, 4, 4)], []):
        found = Adabn().adapt_weights(make_context(adapter, images), weights)
        assert all(torch.equal(value, weights[name]) for name, value in found.items())


def test_a_shared_norm_is_adapted_under_each_of_its_names() -> None:
    adapter = TwoNorms()
    adapter.module.append(adapter.module[3])
    found = Adabn().adapt_weights(make_context(adapter, batches()), adapter.module.state_dict())
    assert torch.equal(found["3.running_var"], found["5.running_var"])
    assert not torch.equal(found["3.running_var"], adapter.module.state_dict()["3.running_var"])


def test_a_model_without_batch_norm_is_refused() -> None:
    module = nn.Sequential(
        nn.GroupNorm(1, 3), nn.InstanceNorm2d(3, track_running_stats=True), nn.BatchNorm2d(3, track_running_stats=False)
    )
    with pytest.raises(InputError, match="'adabn' needs batch norm with running statistics, and this model has none"):
        Adabn().before_fit(SimpleNamespace(adapter=SimpleNamespace(module=module)))  # type: ignore[arg-type]


class Trace(ObserverHook):
    """The trained weights at the end."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def after_step(self, context: Context) -> None:
        self.state = {name: value.clone() for name, value in context.adapter.module.state_dict().items()}


def train(config: dict[str, Any], out: Path, hooks: list[Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    trace, build_run = Trace(), runs.build_run

    def build(config: Any, **options: Any) -> Any:
        parts = build_run(config, **options)
        parts.hooks.append(trace)
        return parts

    with monkeypatch.context() as patch:
        patch.setattr(runs, "build_run", build)
        run = tlvision.train({**config, "hooks": [*config["hooks"], *hooks], "run": {"out": str(out)}}).run
    return trace.state, load_file(str(run / "checkpoints" / "best" / "model.safetensors")), run


@pytest.mark.slow
@pytest.mark.parametrize(
    "others", first_fast([[{"ema": {"decay": 0.5, "warmup": 0}}, {"freeze": {"roles": ["stem"]}}], []])
)
def test_a_run_trains_as_without_it_and_keeps_other_statistics_as_its_best(
    adapt_config: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, others: list[Any]
) -> None:
    adapt_config["data"]["batch"] = {"labelled": 4}
    adapt_config["train"]["verify"] = "every_step"
    adapt_config["evaluate"] = {"every": 2}
    plain, plain_best, _ = train(adapt_config, tmp_path / "plain", others, monkeypatch)
    with_it, best, run = train(adapt_config, tmp_path / "adabn", [*others, "adabn"], monkeypatch)
    assert plain.keys() == with_it.keys()
    assert all(torch.equal(value, with_it[name]) for name, value in plain.items())
    differing = {name for name, value in plain_best.items() if not torch.equal(value, best[name])}
    assert differing == {name for name in plain if name.endswith(("running_mean", "running_var"))}
    assert len(differing) > 10, "the frozen stem's as well"
    last = load_file(str(run / "checkpoints" / "last" / "model.safetensors"))
    assert all(torch.equal(value, with_it[name]) for name, value in last.items())


@pytest.mark.slow  # three seconds; a detector is fast
def test_a_segmenter_and_a_resumed_run(
    segment_config: dict[str, Any], assert_resumes: Callable[[dict[str, Any], int], None]
) -> None:
    segment_config["data"]["batch"] = {"labelled": 4}
    segment_config["hooks"] += ["ema", "adabn"]
    assert_resumes(segment_config, 3)


def test_no_target_is_refused(tiny_config: dict[str, Any]) -> None:
    tiny_config["hooks"].append("adabn")
    with pytest.raises(InputError, match="'adabn' learns from unlabelled images"):
        tlvision.train(tiny_config)
