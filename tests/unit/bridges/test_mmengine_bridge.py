from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from fast import first_fast
from frozen_bits import copied, moved, table
from tlvision.hooks import Duration, initial_plan
from tlvision.hooks.registry import hook_class
from tlvision.plugin import BuildSpec, get_plugin, map_groups
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.types import ClassMap, InputError, RunError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
mmengine = pytest.importorskip("mmengine")
from tlvision_openmmlab.common.engine import DefaultScope, quiet  # noqa: E402  # before mmcv

CONSTRUCTOR, HOOK = ("tlvision.bridges.mmengine." + name for name in ("TlvisionConstructor", "TlvisionHook"))
CONFIGS = Path(__file__).parents[2] / "plugins" / "openmmlab" / "configs"


def small_model() -> Any:
    """A model of mmengine: two blocks with batch norm and dropout, and a head."""
    from mmengine.model import BaseModel

    class Small(BaseModel):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5))
            self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
            self.head = nn.Conv2d(4, 1, 1)

        def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = "tensor") -> Any:
            scores = self.head(self.second(self.first(inputs)))
            if mode == "loss":
                return {"loss": scores.square().mean(), "accuracy": scores.mean()}
            return scores

    torch.manual_seed(0)
    return Small()


def train(model: Any, out: Path, *, hooks: Any, epochs: int = 3, custom: Any = None, **changes: Any) -> Any:
    """Train `model` in a real Runner on 8 random images, 4 at once."""
    from mmengine.runner import Runner

    torch.manual_seed(0)
    images = [{"inputs": torch.rand(3, 8, 8)} for _ in range(8)]
    settings = {
        "model": model,
        "work_dir": str(out),
        "train_dataloader": {
            "dataset": images,
            "batch_size": 4,
            "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": lambda rows: {"inputs": torch.stack([row["inputs"] for row in rows])},
        },
        "train_cfg": {"by_epoch": True, "max_epochs": epochs},
        "optim_wrapper": {
            "optimizer": {"type": "SGD", "lr": 0.1, "momentum": 0.9, "weight_decay": 0.01},
            "constructor": CONSTRUCTOR,
            "paramwise_cfg": {"hooks": hooks},
        },
        "custom_hooks": [{"type": HOOK}] if custom is None else custom,
        "default_hooks": {"checkpoint": {"type": "CheckpointHook", "interval": 1}},
        "experiment_name": f"{out.name}-{torch.randint(1 << 30, (1,)).item()}",
        "log_level": "ERROR",
        **changes,
    }
    with quiet():
        runner = Runner(**settings)
        runner.train()
    return runner


def hook_of(runner: Any) -> Any:
    return next(hook for hook in runner.hooks if type(hook).__name__ == "TlvisionHook")


def test_frozen_parts_are_bit_equal_and_proved_phase_by_phase(tmp_path: Path) -> None:
    model = small_model()
    before = copied(model)
    runner = train(
        model, tmp_path, hooks=[{"freeze": {"groups": ["first"]}}, {"gradual_unfreeze": {"every": 1, "down_to": "second"}}]
    )
    assert moved(before, model, ("first",)) == set()
    assert moved(before, model, ("second.",)) == {n for n in before if n.startswith("second.")}
    report = hook_of(runner).report
    assert [(phase.first, phase.steps, phase.frozen) for phase in report.phases] == [(0, 2, 14), (2, 4, 7)]
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_frozen_in_before_train_epoch_alone_the_statistics_move(tmp_path: Path) -> None:
    """What people write by hand, and why the bridge sets modes before each forward pass."""
    from mmengine.hooks import Hook

    class Naive(Hook):  # type: ignore[misc]
        def before_train_epoch(self, runner: Any) -> None:
            runner.model.first.requires_grad_(False).eval()

    model = small_model()
    before = copied(model)
    optimizer = {"optimizer": {"type": "SGD", "lr": 0.1}}
    train(model, tmp_path, hooks=[], custom=[Naive()], optim_wrapper=optimizer)
    assert moved(before, model, ("first",)) == {f"first.1.{name}" for name in
                                                ("running_mean", "running_var", "num_batches_tracked")}


def test_code_that_moves_something_frozen_fails_the_run(tmp_path: Path) -> None:
    from mmengine.hooks import Hook

    class Spoiler(Hook):  # type: ignore[misc]
        def after_train_iter(self, runner: Any, **_: Any) -> None:
            if runner.iter == 4:
                runner.model.first[1].running_mean += 1e-7

    with pytest.raises(RunError, match=r"'first.1.running_mean' of layer group 'first' is frozen but has moved; mmengine"):
        train(
            small_model(), tmp_path, hooks=[{"freeze": {"groups": ["first"]}}], custom=[{"type": HOOK}, Spoiler()]
        )
