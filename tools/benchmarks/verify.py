"""Measure the cost of the freezing proof: hashes, watching and checks of one phase, next to a training step.

    python tools/bench.py verify --plugin yolo --arch yolov8n --image-size 320 --batch 16

A run proves each phase once: it takes the hashes, watches three steps, and compares. Half of the layer groups are
frozen and so hashed; random weights and one image shape, medians of --repeats.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plugin", default="yolo")
    parser.add_argument("--arch", default="yolov8n")
    parser.add_argument("--image-size", type=int, default=320)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    return parser.parse_args()


def median_of(call: Callable[[], object], repeats: int) -> float:
    """Return the median time of `call` in seconds, after one call that is not counted."""
    call()
    taken = []
    for _ in range(repeats):
        before = time.perf_counter()
        call()
        taken.append(time.perf_counter() - before)
    return statistics.median(taken)


def main() -> None:
    """Measure and print."""
    import torch

    from tlvision.conformance.mini_trainer import MiniTrainer
    from tlvision.hooks import Duration, initial_plan
    from tlvision.plugin import BuildSpec, get_plugin, map_groups
    from tlvision.training.settings import TrainSettings
    from tlvision.training.verify import FIRST_STEPS, FrozenProof
    from tlvision.types import ClassMap, Target

    options = arguments()
    classes = ClassMap(("a", "b", "c"), (1, 2, 3))
    spec = BuildSpec(arch=options.arch, weights="none", classes=classes, image_size=options.image_size)
    adapter, _ = get_plugin(options.plugin).build(spec)
    groups = map_groups(adapter.module, adapter.groups)
    plan = initial_plan(adapter.module, groups, Duration(1, 100))
    plan = plan.train_from(plan.in_groups(range(len(groups.groups) // 2)), None, "bench")
    practice = MiniTrainer(adapter, plan, TrainSettings(epochs=1, device="cpu"))
    images = torch.rand(options.batch, 3, options.image_size, options.image_size)
    box = torch.tensor([[10.0, 10.0, options.image_size / 2, options.image_size / 2]])
    target = Target(boxes=box, labels=torch.tensor([1]), crowd=torch.zeros(1, dtype=torch.bool))
    step = median_of(lambda: practice.take_step(images, [target] * options.batch), options.repeats)
    proof = FrozenProof(adapter.module, plan, practice.optimizer, 0)

    def watch() -> None:
        with proof.watching():
            pass

    hashes = median_of(lambda: FrozenProof(adapter.module, plan, practice.optimizer, 0), options.repeats)
    check = median_of(proof.check, options.repeats)
    cost = hashes + check + FIRST_STEPS * median_of(watch, options.repeats)
    print(f"a training step        {1000 * step:.1f} ms ({options.batch} images of {options.image_size} pixels)")
    print(f"the proof of a phase   {1000 * cost:.1f} ms: hashes {1000 * hashes:.1f}, check {1000 * check:.1f}")
    print(f"share of a phase of 100 steps: {cost / (100 * step):.3%}; of 10 steps: {cost / (10 * step):.3%}")


if __name__ == "__main__":
    main()
