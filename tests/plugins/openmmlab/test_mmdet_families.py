"""One training step, and a prediction, of one config for every detector family of mmdet's zoo; prints what works.

pytest -m slow -s tests/plugins/openmmlab/test_mmdet_families.py
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tlvision.plugin import BuildSpec, get_plugin, map_groups
from tlvision.types import ClassMap, InputError, Target
from tlvision_openmmlab.mmdet.zoo import task_of, zoo

# What does not work, and why; a family that is not here must work.
IMPOSSIBLE = {
    "boxinst": "it learns masks from boxes, with targets that upstream's own pre-processing makes",
    "convnext": "its backbone is mmpretrain's, an extra of its own: pip install mmpretrain",
    "crowddet": "it is for one class",
    "paa": "it wants scikit-learn: pip install scikit-learn",
    "queryinst": "it trains; but on a CPU upstream cannot paste the mask of a box that lies outside of the image, "
    "such as a fresh model gives",
    "timm_example": "its backbone is mmpretrain's, an extra of its own: pip install mmpretrain",
}
SIDE = {"ssd": 320, "pascal_voc": 320, "pisa": 320, "wider_face": 320, "openimages": 320}
# Models that keep so many best places need as many.
MANY_QUERIES = {"dino": 320, "v3det": 320, "ddq": 320}


def smallest(names: list[str]) -> str:
    sizes = {"nano": -6, "r18": -5, "r34": -4, "tiny": -3, "r101": 5, "x101": 8, "hourglass": 3, "32x4d": 2, "dconv": 2}
    return min(names, key=lambda name: (sum(cost for part, cost in sizes.items() if part in name), len(name)))


def families() -> dict[str, str]:
    found: dict[str, list[str]] = {}
    for name, path in zoo().items():
        found.setdefault(path.parent.name, []).append(name)
    return {family: smallest(names) for family, names in found.items()}


FAMILIES = families()
assert len(FAMILIES) > 80
RESULTS: dict[str, str] = {}


@pytest.fixture(scope="module", autouse=True)
def table() -> object:
    yield
    width = max(map(len, FAMILIES.values()))
    print()
    for family, said in RESULTS.items():
        print(f"{family:<20} {FAMILIES[family]:<{width}} {said}")


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # upstream's code is old, and its warnings are not what is asked here
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_of_the_zoo_takes_a_training_step_or_says_why_not(family: str) -> None:
    try:
        said = one_step(FAMILIES[family], SIDE.get(family, MANY_QUERIES.get(family, 128)))
    except (InputError, AttributeError, ImportError, RuntimeError) as error:
        RESULTS[family] = f"no: {IMPOSSIBLE.get(family, str(error))}"
        if family not in IMPOSSIBLE:
            raise
        return
    RESULTS[family] = said
    assert family not in IMPOSSIBLE, "it works; take it out of IMPOSSIBLE"


def test_no_weight_is_whatever_lay_in_memory() -> None:
    """TridentNet's convolutions, which upstream leaves as they are allocated: now and then they were not finite."""
    spec = BuildSpec(arch=FAMILIES["tridentnet"], weights="none", classes=ClassMap.from_names(("a",)), image_size=64)
    torch.use_deterministic_algorithms(True)  # torch then fills fresh memory with nan
    try:
        adapter, _ = get_plugin("mmdet").build(spec)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(bool(tensor.isfinite().all()) for tensor in adapter.module.state_dict().values())


def one_step(arch: str, side: int) -> str:
    torch.manual_seed(0)
    spec = BuildSpec(arch=arch, weights="none", classes=ClassMap.from_names(("a", "b", "c")), image_size=side)
    adapter, _ = get_plugin("mmdet").build(spec)
    map_groups(adapter.module, adapter.groups)
    images = torch.randn(2, 3, side, side)
    has_masks = task_of(zoo()[arch]) == "instance"
    optimizer = torch.optim.SGD(adapter.module.parameters(), lr=1e-4)
    before = {name: parameter.detach().clone() for name, parameter in adapter.module.named_parameters()}
    losses = adapter.loss(images, [target(side, has_masks), target(side, has_masks)])
    sum(losses.values()).backward()  # type: ignore[union-attr]
    optimizer.step()
    moved = sum(not torch.equal(before[name], each) for name, each in adapter.module.named_parameters())
    reached = [parameter.grad for parameter in adapter.module.parameters() if parameter.grad is not None]
    assert all(grad.isfinite().all() for grad in reached)
    assert len(reached) > 0.75 * len(before), f"a gradient reaches only {len(reached)} of {len(before)} parameters"
    # Upstream starts the residual branches of a ResNet at zero, so that much of it stays in the first step.
    assert moved > len(before) / 4, f"only {moved} of {len(before)} parameters moved"
    adapter.module.eval()
    found = adapter.predict(images)
    assert len(found) == 2
    assert (found[0].masks is not None) is has_masks
    parts = "boxes and masks" if has_masks else "boxes"
    return f"yes: {parts}; {', '.join(f'{name} {float(value):.3g}' for name, value in list(losses.items())[:3])}"


def target(side: int, has_masks: bool) -> Target:
    boxes = np.array([[8, 8, side / 2, side / 2], [side / 3, side / 4, side - 10, side - 20]], np.float32)
    masks = np.zeros((2, side, side), np.uint8)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes.astype(int), strict=True):
        mask[y0:y1, x0:x1] = 1
    return Target(
        boxes=torch.from_numpy(boxes),
        labels=torch.tensor([0, 2]),
        crowd=torch.zeros(2, dtype=torch.bool),
        masks=torch.from_numpy(masks) if has_masks else None,
    )
