"""mmcv's batch normalisation over processes against torch's own over the whole batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from mmcv.ops import SyncBatchNorm
from torch import Tensor, nn

from tlvision_openmmlab.mmcv_ops import OPERATORS


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[None]:
    """A process group of this process."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def with_random_parameters(norm: nn.Module, rng: torch.Generator) -> nn.Module:
    norm.weight.data = torch.randn(3, generator=rng)
    norm.bias.data = torch.randn(3, generator=rng)
    return norm


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("stats_mode", ["default", "N"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), pytest.param(torch.float16, 5e-3, id="half")])
def test_values_gradients_and_running_statistics(
    rng: torch.Generator, device: torch.device, dtype: torch.dtype, tolerance: float, stats_mode: str
) -> None:
    expected = with_random_parameters(nn.BatchNorm2d(3, momentum=0.3), rng).to(device)
    norm = SyncBatchNorm(3, momentum=0.3, stats_mode=stats_mode).to(device)
    norm.load_state_dict(expected.state_dict())
    values = (torch.randn(4, 3, 5, 6, generator=rng) * 3 + 1).to(device, dtype)
    grad = torch.randn(4, 3, 5, 6, generator=rng).to(device, dtype)
    close = {"rtol": tolerance, "atol": tolerance}
    inputs = []
    for layer, features in ((expected, values.float()), (norm, values.clone())):
        features.requires_grad_()
        layer(features).backward(grad.to(features.dtype))
        inputs.append(features)
    torch.testing.assert_close(norm(values).float(), expected(values.float()), **close)
    torch.testing.assert_close(inputs[1].grad.float(), inputs[0].grad, **close)
    for name, parameter in expected.named_parameters():
        torch.testing.assert_close(dict(norm.named_parameters())[name].grad, parameter.grad, **close)
    for name, buffer in expected.named_buffers():
        torch.testing.assert_close(dict(norm.named_buffers())[name], buffer, **close)


def test_two_halves_that_exchange_their_statistics_are_one_batch(rng: torch.Generator, device: torch.device) -> None:
    expected = with_random_parameters(nn.BatchNorm1d(3, momentum=0.3), rng).to(device)
    values = torch.randn(4, 3, 5, generator=rng).to(device).requires_grad_()
    grad = torch.randn(4, 3, 5, generator=rng).to(device)
    output = expected(values)
    output.backward(grad)
    halves, grads = values.detach().split(2), grad.split(2)

    def mean(name: str, *shared: Tensor) -> Tensor:
        found = [torch.zeros(3, device=device) for _ in halves]
        for half, place in zip(halves, found, strict=True):
            OPERATORS[name](half, *shared, place)
        return torch.stack(found).mean(0)

    average = mean("sync_bn_forward_mean")
    var = mean("sync_bn_forward_var", average)
    weight, bias = expected.weight.data, expected.bias.data
    norms = [torch.zeros_like(half) for half in halves]
    std = torch.zeros(3, device=device)
    for half, norm, whole in zip(halves, norms, output.split(2), strict=True):
        running, found = [torch.zeros(3, device=device), torch.ones(3, device=device)], torch.zeros_like(half)
        OPERATORS["sync_bn_forward_output"](
            half, average, var, weight, bias, *running, norm, std, found, eps=1e-5, momentum=0.3, group_size=2
        )
        torch.testing.assert_close(found, whole)
        torch.testing.assert_close(running, [expected.running_mean, expected.running_var])
    parts = [[torch.zeros(3, device=device) for _ in range(2)] for _ in halves]
    for part, norm, half_grad in zip(parts, norms, grads, strict=True):
        OPERATORS["sync_bn_backward_param"](half_grad, norm, *part)
    grad_weight, grad_bias = (torch.stack(each).mean(0) for each in zip(*parts, strict=True))
    torch.testing.assert_close([2 * grad_weight, 2 * grad_bias], [expected.weight.grad, expected.bias.grad])
    for norm, half_grad, whole in zip(norms, grads, values.grad.split(2), strict=True):
        found = torch.zeros_like(norm)
        OPERATORS["sync_bn_backward_data"](half_grad, weight, grad_weight, grad_bias, norm, std, found)
        torch.testing.assert_close(found, whole)
