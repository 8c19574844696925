"""Channels that belong together: what can be left out changes no result, in torch and in an ONNX graph."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tlvision.hooks.channels.trace import Network, Slot, trace_channels

SIZE = (2, 3, 16, 16)


class Block(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, read: int, made: int, size: int = 1, groups: int = 1, act: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(read, made, size, padding=size // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(made)
        self.act = nn.SiLU() if act is None else act

    def forward(self, images: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(images)))


class Net(nn.Module):
    """Halves of a split, a sum, a concatenation, a gate, a depthwise layer, a sigmoid, and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(3, 8, 3)
        self.halves = Block(8, 8)
        self.inner = nn.Sequential(Block(4, 4, 3), Block(4, 4, 3))
        self.after = Block(12, 10, act=nn.Hardtanh(0, 6))
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(10, 6, 1), nn.ReLU(), nn.Conv2d(6, 10, 1))
        self.depth = Block(10, 10, 3, groups=10)
        self.bent = nn.Conv2d(10, 5, 1)  # a sigmoid makes 0.5 of its zeros
        self.last = nn.ConvTranspose2d(5, 7, 2, stride=2)
        self.grouped = nn.Conv2d(7, 7, 1)
        self.body = nn.Sequential(nn.Linear(7, 9), nn.ReLU(), nn.Linear(9, 2))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stem = nn.functional.max_pool2d(self.stem(images), 2)
        one, two = self.halves(stem).chunk(2, 1)
        mixed = self.after(torch.cat([one, two, two + self.inner(two)], 1))
        gated = mixed * self.gate(mixed).sigmoid()
        deep = self.depth(nn.functional.interpolate(gated, size=[2 * n for n in gated.shape[2:]], mode="nearest"))
        bent = self.bent(deep).sigmoid()
        last = self.grouped(self.last(bent)).relu()
        return self.body(last.mean((2, 3))), last


# By hand: stem 8; the first half 4; the second with what is added to it 4, and what is inside of the sum 4; after 10
# with gate and depth; inside of the gate 6; not bent, whose zeros the sigmoid bends; last 7; not grouped, a result;
# body 9.
FREE = 8 + 4 + 4 + 4 + 10 + 6 + 7 + 9


@pytest.fixture
def net() -> Net:
    torch.manual_seed(0)
    made = Net()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias)
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.running_mean)  # type: ignore[arg-type]
    return made.eval()


def classes(network: Network) -> dict[int, list[tuple[Slot, int]]]:
    found: dict[int, list[tuple[Slot, int]]] = {}
    for slot, ids in network.slots.items():
        free = network.channels.free(ids)
        for place, root in enumerate(network.channels.roots(ids).tolist()):
            if free[place]:
                found.setdefault(root, []).append((slot, place))
    return found


def fill(module: nn.Module, places: list[tuple[Slot, int]], value: float, *, makes: bool) -> None:
    tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    with torch.no_grad():
        for slot, place in places:
            if slot.makes == makes:
                tensors[slot.name].select(slot.axis, place).fill_(value)


def outputs(module: nn.Module, images: Tensor) -> Iterator[Tensor]:
    with torch.no_grad():
        yield from module(images)


def test_what_reads_a_channel_of_zeros_does_not_matter(net: Net) -> None:
    """The oracle of a removal: with all that makes a channel at 0, its columns and statistics may be anything."""
    network = trace_channels(net, [(net, [torch.zeros(SIZE)])])
    found = classes(network)
    assert len(found) == FREE
    images = torch.randn(SIZE)
    for places in found.values():
        changed = copy.deepcopy(net)
        fill(changed, places, 0.0, makes=True)
        wanted = list(outputs(changed, images))
        fill(changed, places, 3.0, makes=False)
        for one, other in zip(wanted, outputs(changed, images), strict=True):
            assert torch.allclose(one, other, atol=1e-5)


def test_a_pass_leaves_the_network_as_it_was(net: Net) -> None:
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    trace_channels(net, [(net, [torch.zeros(SIZE)])])
    assert all(torch.equal(before[name], tensor) for name, tensor in net.state_dict().items())


def test_limits_beyond_zero_make_something_of_it() -> None:
    """A clip to 1..2 makes 1 of a channel of zeros, so the next layer needs it."""
    for low, count in ((0.0, 6), (1.0, 0)):
        bent = nn.Sequential(nn.Conv2d(3, 6, 1), nn.Hardtanh(low, 2.0), nn.Conv2d(6, 4, 1)).eval()
        assert len(classes(trace_channels(bent, [(bent, [torch.zeros(SIZE)])]))) == count


def test_a_matrix_that_something_else_reads_stays_whole() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(4, 6), nn.Linear(6, 3)

        def forward(self, values: Tensor) -> Tensor:
            return self.second(self.first(values)) + self.first.weight.cumsum(0).sum()

    tied = Tied().eval()
    network = trace_channels(tied, [(tied, [torch.zeros(2, 4)])])
    assert len(network.slots) == 6, "weights and biases of both"
    assert classes(network) == {}


@pytest.mark.slow
@pytest.mark.parametrize("fixed", [False, True])
def test_an_onnx_graph_loses_the_channels_of_zeros_and_gives_the_same(net: Net, tmp_path: Path, *, fixed: bool) -> None:
    pytest.importorskip("onnxscript")
    onnx, runtime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    from tlvision.export.graphs import write_graph
    from tlvision.export.shrink import leave_out_zero_channels
    from tlvision.plugin.export import Graph

    layers: dict[frozenset[Slot], list[list[tuple[Slot, int]]]] = {}
    for places in classes(trace_channels(net, [(net, [torch.zeros(SIZE)])])).values():
        layers.setdefault(frozenset(slot for slot, _ in places), []).append(places)
    pruned = [places for layer in layers.values() for places in layer[: len(layer) // 3 + 1]]
    for places in pruned:
        fill(net, places, 0.0, makes=True)
    images = torch.randn(SIZE)
    wanted = list(outputs(net, images))

    path = tmp_path / "net.onnx"
    free = {"images": {2: "height", 3: "width"}}
    graph = Graph(module=net, inputs={"images": images}, outputs=("a", "b"), free=free)
    if fixed:  # names the lengths of what is resized, the channels too
        images, wanted = images[:1], [each[:1] for each in wanted]
    write_graph(graph, path, fixed=SIZE[2:] if fixed else None)
    before = sum(len(each.raw_data) for each in onnx.load(path).graph.initializer)
    assert leave_out_zero_channels(path) == len(pruned)
    content = path.read_bytes()
    assert leave_out_zero_channels(path) == 0, "none is left"
    assert path.read_bytes() == content
    assert sum(len(each.raw_data) for each in onnx.load(path).graph.initializer) < 0.6 * before
    found = runtime.InferenceSession(str(path)).run(None, {"images": images.numpy()})
    for one, other in zip(wanted, found, strict=True):
        assert torch.allclose(one, torch.from_numpy(other), atol=1e-4)
