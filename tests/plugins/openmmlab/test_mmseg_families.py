"""One training step, and a prediction, of one config for every segmenter family of mmseg's zoo; prints what works.

pytest -m slow -s tests/plugins/openmmlab/test_mmseg_families.py
"""

from __future__ import annotations

import pytest
import torch

from tlvision.plugin import BuildSpec, get_plugin, map_groups
from tlvision.types import ClassMap, InputError, Target
from tlvision_openmmlab.mmseg.zoo import zoo

# What does not work, and why; a family that is not here must work.
IMPOSSIBLE = {
    "convnext": "its backbone is mmpretrain's, an extra of its own: pip install mmpretrain",
    "poolformer": "its backbone is mmpretrain's, an extra of its own: pip install mmpretrain",
}
# LR-ASPP pools over 49 x 49 places at stride 8.
SIDE = {"mobilenet_v3": 512}


def smallest(names: list[str]) -> str:
    sizes = {"r18": -5, "-s_": -2, "-t_": -4, "mit-b0": -5, "tiny": -3, "r101": 5, "swin-b": 5, "swin-l": 6, "vit-l": 4}
    sizes["levir"] = 9  # pairs of images
    return min(names, key=lambda name: (sum(cost for part, cost in sizes.items() if part in name), len(name), name))


def families() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, path in zoo().items():
        found.setdefault(path.parent.name, []).append(name)
    return {family: smallest(names) for family, names in found.items()}


FAMILIES = families()
assert len(FAMILIES) > 45
RESULTS: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def table() -> object:
    yield
    width = max(map(len, FAMILIES.values()))
    print()
    for family, said in RESULTS.items():
        print(f"{family:<15} {FAMILIES[family]:<{width}} {said}")


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_zoo_takes_a_training_step_or_says_why_not(family: str) -> None:
    try:
        said = one_step(FAMILIES[family], SIDE.get(family, 128))
    except (InputError, AttributeError, ImportError, RuntimeError) as error:
        RESULTS[family] = f"no: {IMPOSSIBLE.get(family, str(error))}"
        if family not in IMPOSSIBLE:
            raise
        return
    RESULTS[family] = said
    assert family not in IMPOSSIBLE, "it works; take it out of IMPOSSIBLE"


def one_step(arch: str, side: int) -> str:
    torch.manual_seed(0)
    spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(("a", "b", "c")), image_size=side)
    adapter, _ = get_plugin("mmseg").build(spec)
    map_groups(adapter.module, adapter.groups)
    images = torch.randn(2, 3, side, side)
    optimizer = torch.optim.SGD(adapter.module.parameters(), lr=1e-2)
    before = {name: parameter.detach().clone() for name, parameter in adapter.module.named_parameters()}
    losses = adapter.loss(images, [target(side, 0), target(side, 1)])
    sum(losses.values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    moved = sum(not torch.equal(before[name], each) for name, each in adapter.module.named_parameters())
    reached = [parameter.grad for parameter in adapter.module.parameters() if parameter.grad is not None]
    assert all(grad.isfinite().all() for grad in reached)
    assert len(reached) > 0.75 * len(before), f"a gradient reaches only {len(reached)} of {len(before)} parameters"
    # Upstream starts the residual branches of a ResNet at zero, so that much of it stays in the first step.
    assert moved > len(before) / 4, f"only {moved} of {len(before)} parameters moved"
    adapter.module.eval()
    features = adapter.features(images)
    assert set(features) == {tap.name for tap in adapter.taps}
    (first, _) = adapter.predict(images)
    assert first.semantic.shape == (side, side)
    groups = [group.name for group in adapter.groups]
    stages = sum(name.startswith("backbone.") for name in groups)
    shown = ", ".join(f"{name} {value.item():.3g}" for name, value in list(losses.items())[:3])
    return f"yes: {len(groups)} groups, {stages} stages; {shown}"


def target(side: int, first: int) -> Target:
    semantic = torch.full((side, side), first)
    semantic[: side // 2, side // 3 :] = 2
    semantic[:8] = 255
    return Target(
        boxes=torch.zeros((0, 4)),
        labels=torch.zeros(0, dtype=torch.int64),
        crowd=torch.zeros(0, dtype=torch.bool),
        semantic=semantic,
    )
