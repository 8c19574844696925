from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from frozen_bits import copied, moved, table
from tlvision.bridges.models import children_as_groups
from tlvision.hooks import Duration, initial_plan
from tlvision.hooks.registry import hook_class
from tlvision.plugin import BuildSpec, get_plugin, map_groups
from tlvision.training.optim import build_optimizer
from tlvision.training.settings import TrainSettings
from tlvision.types import ClassMap, InputError, RunError

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
mmengine = pytest.importorskip("mmengine")
from tlvision_openmmlab.common.engine import DefaultScope, quiet  # noqa: E402  # before mmcv

CONSTRUCTOR, HOOK = ("tlvision_bridges.mmengine." + name for name in ("TlvisionConstructor", "TlvisionHook"))
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


def train(
    model: Any,
    out: Path,
    *,
    hooks: Any,
    epochs: int = 3,
    custom: Any = None,
    sampler: str = "DefaultSampler",
    **changes: Any,
) -> Any:
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
            "sampler": {"type": sampler, "shuffle": False},
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
        model,
        tmp_path,
        hooks=[{"freeze": {"groups": ["first"]}}, {"gradual_unfreeze": {"every": 1, "down_to": "second"}}],
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
    assert moved(before, model, ("first",)) == {
        f"first.1.{name}" for name in ("running_mean", "running_var", "num_batches_tracked")
    }


def test_code_that_moves_something_frozen_fails_the_run(tmp_path: Path) -> None:
    from mmengine.hooks import Hook

    class Spoiler(Hook):  # type: ignore[misc]
        def after_train_iter(self, runner: Any, **_: Any) -> None:
            if runner.iter == 4:
                runner.model.first[1].running_mean += 1e-7

    with pytest.raises(
        RunError, match=r"'first.1.running_mean' of layer group 'first' is frozen but has moved; mmengine"
    ):
        train(small_model(), tmp_path, hooks=[{"freeze": {"groups": ["first"]}}], custom=[{"type": HOOK}, Spoiler()])


def test_the_hook_without_the_constructor_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"optim_wrapper.constructor to 'tlvision_bridges.mmengine.TlvisionConstructor'"
    ):
        train(small_model(), tmp_path, hooks=[], optim_wrapper={"optimizer": {"type": "SGD", "lr": 0.1}})


def test_the_constructor_without_the_hook_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Add dict\(type='tlvision_bridges.mmengine.TlvisionHook'\) to custom_hooks"):
        train(small_model(), tmp_path, hooks=[{"freeze": {"groups": ["first"]}}], custom=[])


def test_hooks_that_need_unlabelled_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'coral' needs unlabelled images .*mmengine's Runner.*`tlvision train`"):
        train(small_model(), tmp_path, hooks=["coral"])


def test_upstreams_own_rules_of_a_config_are_kept(tmp_path: Path) -> None:
    """Rates and decays of `paramwise_cfg` are multiplied by what the hooks say."""
    rules = {"hooks": [{"layerwise_lr": {"decay": 0.5}}], "custom_keys": {"first": {"lr_mult": 0.1}}}
    optimizer = {"type": "AdamW", "lr": 0.1, "weight_decay": 0.01}
    runner = train(
        small_model(),
        tmp_path,
        hooks=[],
        optim_wrapper={"optimizer": optimizer, "constructor": CONSTRUCTOR, "paramwise_cfg": rules},
    )
    found = table(runner.optim_wrapper.optimizer, runner.model)
    assert found["first.0.weight"] == (pytest.approx(0.0025), 0.01)
    assert found["second.1.weight"] == (0.05, 0.01)  # upstream decays norms unless it is told not to
    assert found["head.bias"] == (0.1, 0.01)


def test_loops_by_iterations_and_schedules_of_upstream(tmp_path: Path) -> None:
    rates: list[tuple[float, float]] = []
    from mmengine.hooks import Hook

    class Rates(Hook):  # type: ignore[misc]
        priority = "LOWEST"

        def before_train_iter(self, runner: Any, **_: Any) -> None:
            found = table(runner.optim_wrapper.optimizer, runner.model)
            rates.append((found["head.weight"][0], found["first.0.weight"][0]))

    model = small_model()
    before = copied(model)
    runner = train(
        model,
        tmp_path,
        hooks=[{"gradual_unfreeze": {"at": [0.2, 0.5], "rewarm": 0.1}}, {"layerwise_lr": {"decay": 0.5}}],
        custom=[{"type": HOOK}, Rates()],
        sampler="InfiniteSampler",
        train_cfg={"by_epoch": False, "max_iters": 10},
        param_scheduler=[{"type": "MultiStepLR", "milestones": [6], "by_epoch": False, "gamma": 0.1}],
    )
    assert moved(before, model) >= {name for name in before if name.endswith("weight")}
    phases = hook_of(runner).report.phases
    assert [(phase.first, phase.steps, phase.frozen) for phase in phases] == [(0, 2, 14), (2, 3, 7), (5, 5, 0)]
    assert rates == [(0.1, 0.025)] * 6 + [(pytest.approx(0.01), pytest.approx(0.0025))] * 4


def test_losses_of_hooks_are_upstreams_losses_and_accumulation_works(tmp_path: Path) -> None:
    """With a pull that is all there is to learn, the weights come back to where they started."""

    def spread(hooks: list[Any], name: str) -> float:
        model = small_model()
        before = copied(model)
        (tmp_path / name).mkdir()
        wrapper = {
            "optimizer": {"type": "SGD", "lr": 0.05},
            "accumulative_counts": 2,
            "constructor": CONSTRUCTOR,
            "paramwise_cfg": {"hooks": hooks},
        }
        runner = train(model, tmp_path / name, hooks=[], epochs=6, optim_wrapper=wrapper)
        logged = runner.message_hub.log_scalars
        assert ("train/loss_l2_sp_distance" in logged) is bool(hooks)
        return float(sum((model.state_dict()[n] - before[n]).square().sum() for n in before if n.endswith("0.weight")))

    assert spread([{"l2_sp": {"alpha": 10.0}}], "near") < 0.2 * spread([], "far")


def evaluator() -> Any:
    from mmengine.evaluator import BaseMetric, Evaluator

    class First(BaseMetric):  # type: ignore[misc]
        """The first number of the first weight, as validation sees it."""

        def process(self, data_batch: Any, data_samples: Any) -> None:
            self.results.append(float(data_samples[0]))

        def compute_metrics(self, results: list[float]) -> dict[str, float]:
            return {"first": results[0]}

    return Evaluator([First()])


def test_the_average_validates_is_saved_and_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")  # mmengine 0.10 cannot resume with torch 2.6 without it

    def run(epochs: int, **changes: Any) -> tuple[Any, Any]:
        model = small_model()
        forward = model.forward
        model.forward = lambda inputs, data_samples=None, mode="tensor": (
            [model.head.weight[0, 0, 0, 0]] if mode == "predict" else forward(inputs, data_samples, mode)
        )
        images = [{"inputs": torch.rand(3, 8, 8)} for _ in range(2)]
        loader = {
            "dataset": images, "batch_size": 1, "sampler": {"type": "DefaultSampler", "shuffle": False},
            "collate_fn": lambda rows: {"inputs": torch.stack([row["inputs"] for row in rows])},
        }  # fmt: skip
        hooks = [{"freeze": {"groups": ["first"]}}, {"ema": {"decay": 0.5, "warmup": 0}}]
        runner = train(
            model, tmp_path, hooks=hooks, epochs=epochs, val_dataloader=loader, val_cfg={"type": "ValLoop"},
            val_evaluator=evaluator(), randomness={"seed": 0}, **changes,
        )  # fmt: skip
        return runner, hook_of(runner)

    runner, hook = run(2)
    average = runner.optim_wrapper.tlvision.averaged_state()
    trained = runner.model.state_dict()
    assert not torch.equal(average["head.weight"], trained["head.weight"])
    assert runner.message_hub.get_scalar("val/first").current() == pytest.approx(
        float(average["head.weight"][0, 0, 0, 0])
    )
    saved = torch.load(tmp_path / "epoch_2.pth", weights_only=False)
    assert torch.equal(saved["state_dict"]["head.weight"], average["head.weight"])
    assert torch.equal(saved["tlvision_trained"]["head.weight"], trained["head.weight"])

    whole, _ = run(4)
    resumed, hook = run(4, resume=True, load_from=str(tmp_path / "epoch_2.pth"))
    assert [(phase.first, phase.steps) for phase in hook.report.phases] == [(4, 4)]
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name
    averages = (each.optim_wrapper.tlvision.averaged_state() for each in (whole, resumed))
    assert all(torch.equal(one, other) for one, other in zip(*(each.values() for each in averages), strict=True))


def test_the_optimizer_table_is_that_of_our_own_loop() -> None:
    """The same for models of mmdet and mmseg below; here fast, for a model with a group for each child."""
    from mmengine.optim import build_optim_wrapper

    model = small_model()
    plan = initial_plan(model, map_groups(model, children_as_groups(model)), Duration(2, 3))
    plan = hook_class("layerwise_lr")(decay=0.7).setup(plan)
    own = build_optimizer(model, plan, TrainSettings(epochs=2, lr=3e-4, weight_decay=0.05), {})
    wrapper = build_optim_wrapper(
        model,
        {
            "optimizer": {"type": "AdamW", "lr": 3e-4, "weight_decay": 0.05},
            "constructor": CONSTRUCTOR,
            "paramwise_cfg": {"hooks": [{"layerwise_lr": {"decay": 0.7}}]},
        },
    )
    expected = table(own, model)
    assert len(expected) == 10
    assert len(set(expected.values())) == 6
    assert table(wrapper.optimizer, model) == expected


FAMILIES = [
    ("mmseg", "segformer_mit-b0_8xb2-160k_ade20k-512x512"),
    ("mmseg", "fcn_r18-d8_4xb2-80k_cityscapes-512x1024"),
    ("mmdet", str(CONFIGS / "faster-rcnn_tiny.py")),
    ("mmdet", str(CONFIGS / "deformable-detr_tiny.py")),
]


@pytest.mark.slow
@pytest.mark.parametrize(("library", "arch"), FAMILIES)
def test_layerwise_decay_gives_the_optimizer_table_of_our_own_loop(library: str, arch: str) -> None:
    """Rate and weight decay of every parameter, of a model that upstream builds with its own preprocessor."""
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS

    from tlvision_openmmlab.common.engine import Config

    classes = ClassMap.from_names(["a", "b"])
    adapter, _ = get_plugin(library).build(BuildSpec(arch=arch, weights="none", classes=classes, image_size=128))
    plan = initial_plan(adapter.module, map_groups(adapter.module, adapter.groups), Duration(2, 3))
    for name, options in HOOKS.items():
        plan = hook_class(name)(**options).setup(plan)
    settings = TrainSettings(epochs=2, lr=3e-4, weight_decay=0.05)
    own = build_optimizer(adapter.module, plan, settings, {})

    model = upstream_model(library, arch, MODELS, Config, DefaultScope)
    wrapper = build_optim_wrapper(
        model,
        {
            "optimizer": {"type": "AdamW", "lr": 3e-4, "weight_decay": 0.05},
            "constructor": CONSTRUCTOR,
            "paramwise_cfg": {"hooks": [{name: options} for name, options in HOOKS.items()]},
        },
    )
    expected = table(own, adapter.module)
    assert len(expected) > 40
    assert len({lr for lr, _ in expected.values()}) > 4
    assert table(wrapper.optimizer, model) == expected


HOOKS: dict[str, dict[str, Any]] = {"layerwise_lr": {"decay": 0.7}, "freeze": {"roles": ["stem"]}}


def upstream_model(library: str, arch: str, models: Any, config: Any, scope: Any) -> Any:
    """Build the model of a config as upstream's Runner does."""
    from importlib import import_module

    found = import_module(f"tlvision_openmmlab.{library}.zoo").find_config(arch)
    description = config.fromfile(getattr(found, "path", found)).model
    with quiet(), scope.overwrite_default_scope(library):
        strip(description)
        return models.build(description)


def strip(part: Any) -> None:
    """Set two classes, and take out what upstream itself freezes, loads or synchronises over processes."""
    if isinstance(part, dict):
        part.pop("pretrained", None)
        if isinstance(part.get("init_cfg"), dict) and part["init_cfg"].get("type") == "Pretrained":
            part.pop("init_cfg")
        for key, value in (("num_classes", 2), ("frozen_stages", -1), ("norm_eval", False), ("requires_grad", True)):
            if key in part:
                part[key] = value
        if part.get("type") == "SyncBN":
            part["type"] = "BN"
        for below in list(part.values()):
            strip(below)
    elif isinstance(part, list | tuple):
        for below in part:
            strip(below)


@pytest.mark.slow
def test_a_detector_of_mmdet_in_its_own_runner(tiny_dataset: Path, tmp_path: Path) -> None:
    import mmdet
    from mmengine.config import Config
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Start(Hook):  # type: ignore[misc]
        """Copies the model when training starts: the runner initialises it later than it builds it."""

        def before_train(self, runner: Any) -> None:
            self.weights = copied(runner.model)

    path = Path(mmdet.__file__).parent / ".mim" / "configs" / "retinanet" / "retinanet_r18_fpn_1x_coco.py"
    config = Config.fromfile(path)
    dataset = {
        "type": "CocoDataset",
        "ann_file": str(tiny_dataset / "train.json"),
        "data_prefix": {"img": str(tiny_dataset / "images")},
        "metainfo": {"classes": ("dark", "light")},
        "pipeline": [
            {"type": "LoadImageFromFile"},
            {"type": "LoadAnnotations", "with_bbox": True},
            {"type": "PackDetInputs", "meta_keys": ("img_id", "img_shape", "ori_shape")},
        ],
    }
    config.train_dataloader.dataset = dataset
    config.train_dataloader.update(num_workers=0, persistent_workers=False, batch_size=4)
    config.model.bbox_head.num_classes = 2
    config.model.backbone.init_cfg = None
    for key in ("val_dataloader", "val_evaluator", "val_cfg", "test_dataloader", "test_evaluator", "test_cfg"):
        config[key] = None
    config.train_cfg = {"by_epoch": True, "max_epochs": 2}
    config.work_dir = str(tmp_path)
    # The two lines.
    config.optim_wrapper.update(
        constructor=CONSTRUCTOR,
        paramwise_cfg={
            "hooks": [{"freeze": {"through": "backbone.stage2"}}, {"gradual_unfreeze": {"every": 1, "down_to": "neck"}}]
        },
    )
    config.custom_hooks = [{"type": HOOK}]
    with quiet():
        runner = Runner.from_cfg(config)
        runner.register_hook(start := Start())
        runner.train()
    before = start.weights
    frozen = ("backbone.conv1.", "backbone.bn1.", "backbone.layer1.", "backbone.layer2.")
    assert moved(before, runner.model, frozen) == set()
    assert len(moved(before, runner.model, ("bbox_head.",))) > 10
    assert len(moved(before, runner.model, ("neck.",))) > 5
    phases = hook_of(runner).report.phases
    assert [phase.first for phase in phases] == [0, 3]
    assert phases[0].frozen > phases[1].frozen > 50
