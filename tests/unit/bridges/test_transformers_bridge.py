from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_bits import copied, moved, table
from tlvision.plugin import LayerGroup, Tap
from tlvision.types import InputError, RunError

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


from tlvision_bridges.transformers import attach  # noqa: E402  # imports transformers

GROUPS = [
    LayerGroup("stage0", "stem", ("segformer.stages.0",)),
    LayerGroup("stage1", "backbone", ("segformer.stages.1",)),
    LayerGroup("decode_head", "head", ("decode_head",)),
]
FREEZE = {"freeze": {"groups": ["neck"]}}  # the plugin's name of what has the batch norm
HOOKS: list[Any] = [{"freeze": {"groups": ["stage0"]}}, {"gradual_unfreeze": {"every": 2, "down_to": "stage1"}}]


def small_model() -> Any:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8, num_labels=2, drop_path_rate=0.2,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


def trainer_of(model: Any, out: Path, **changes: Any) -> Any:
    torch.manual_seed(0)
    rows = [{"pixel_values": torch.rand(3, 16, 16), "labels": torch.randint(0, 2, (16, 16))} for _ in range(8)]
    settings = {
        "output_dir": str(out), "num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "weight_decay": 0.1,
        "logging_strategy": "no",
    }  # fmt: skip
    args = transformers.TrainingArguments(**settings | changes)
    return transformers.Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows[:4])


def test_frozen_parts_are_bit_equal_and_proved_phase_by_phase(tmp_path: Path) -> None:
    model = small_model()
    before = copied(model)
    callback = attach(trainer := trainer_of(model, tmp_path, num_train_epochs=3), HOOKS, groups=GROUPS)
    trainer.train()
    assert moved(before, model, ("segformer.stages.0",)) == set()
    weights = {name for name in before if name.endswith("weight") and not name.startswith("segformer.stages.0")}
    assert weights <= moved(before, model)
    assert [(phase.first, phase.steps, phase.frozen) for phase in callback.report.phases] == [(0, 4, 52), (4, 2, 28)]


def test_statistics_of_a_frozen_neck_are_bit_equal(tmp_path: Path) -> None:
    model = small_model()
    before = copied(model)
    callback = attach(trainer := trainer_of(model, tmp_path), [FREEZE])
    trainer.train()
    assert moved(before, model, ("decode_head.batch_norm.", "decode_head.linear_")) == set()
    assert [phase.steps for phase in callback.report.phases] == [4]


def test_set_at_the_beginning_of_an_epoch_the_statistics_move(tmp_path: Path) -> None:
    """A callback that people write; each training step of upstream calls `model.train()` again."""

    class Naive(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, args: Any, state: Any, control: Any, **moment: Any) -> None:
            moment["model"].decode_head.requires_grad_(False).eval()

    model = small_model()
    before = copied(model)
    trainer = trainer_of(model, tmp_path)
    trainer.add_callback(Naive())
    trainer.train()
    assert moved(before, model, ("decode_head.batch_norm.running",)) == {
        "decode_head.batch_norm.running_mean", "decode_head.batch_norm.running_var"
    }  # fmt: skip


def test_rates_follow_depth_and_decays_stay_upstreams(tmp_path: Path) -> None:
    plain, model = small_model(), small_model()
    theirs = table(trainer_of(plain, tmp_path).create_optimizer(), plain)
    trainer = trainer_of(model, tmp_path, lr_scheduler_type="constant")
    attach(trainer, [{"layerwise_lr": {"decay": 0.5}}], groups=GROUPS)
    trainer.train()
    factors = {"segformer.stages.0": 0.25, "segformer.stages.1": 0.5, "decode_head": 1.0}
    expected = {
        name: (lr * next(factor for prefix, factor in factors.items() if name.startswith(prefix)), decay)
        for name, (lr, decay) in theirs.items()
    }
    assert {decay for _, decay in theirs.values()} == {0.0, 0.1}
    assert table(trainer.optimizer.optimizer, model) == expected


def test_losses_of_hooks_are_in_the_models_loss(tmp_path: Path) -> None:
    model = small_model()
    tap = Tap("stem", "segformer.stages.0.patch_embeddings.proj", 8, 2)
    hooks = [{"l2_sp": {"alpha": 1.0, "beta": 1.0}}, {"feature_distance": {"taps": ["stem"]}}]
    trainer = trainer_of(model, tmp_path, gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=1)
    callback = attach(trainer, hooks, groups=GROUPS, taps=[tap], new=["decode_head.classifier.*"])
    trainer.train()
    start = next(row["loss"] for row in trainer.state.log_history if "loss" in row)
    plain = trainer_of(
        small_model(), tmp_path, gradient_accumulation_steps=2, logging_strategy="steps", logging_steps=1
    )
    plain.train()
    theirs = next(row["loss"] for row in plain.state.log_history if "loss" in row)
    head = 0.5 * float(small_model().decode_head.classifier.weight.square().sum().detach())
    assert start == pytest.approx(theirs + head, rel=1e-4)  # nothing has moved yet: the new part alone
    assert callback.report is not None


def test_evaluation_has_the_averaged_weights(tmp_path: Path) -> None:
    model = small_model()
    trainer = trainer_of(model, tmp_path)
    attach(trainer, [{"ema": {"decay": 0.9, "warmup": 0}}])
    trainer.train()
    trained = copied(model)
    twin = small_model()
    run = trainer.evaluate()["eval_loss"]
    assert moved(trained, model) == set()
    twin.load_state_dict(model.state_dict())
    assert trainer_of(twin, tmp_path).evaluate()["eval_loss"] != pytest.approx(run, rel=1e-6)


def test_what_the_bridge_cannot_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"'mmd' needs unlabelled images.*Hugging Face's Trainer.*tlvision train"):
        attach(trainer_of(small_model(), tmp_path), ["mmd"])
    trainer = trainer_of(small_model(), tmp_path)
    trainer.create_optimizer()
    with pytest.raises(InputError, match="has an optimizer already"):
        attach(trainer, [])
    with pytest.raises(InputError, match="computes another loss"):
        attach(trainer_of(small_model(), tmp_path, label_smoothing_factor=0.1), ["l2_sp"])
    with pytest.raises(InputError, match="torch_compile=False"):
        attach(trainer_of(small_model(), tmp_path, torch_compile=True), [])


def test_a_callback_that_moves_something_frozen_fails_the_training(tmp_path: Path) -> None:
    class Spoiler(transformers.TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **moment: Any) -> None:
            moment["model"].decode_head.batch_norm.running_mean += 1e-6

    trainer = trainer_of(small_model(), tmp_path)
    attach(trainer, [FREEZE])
    trainer.add_callback(Spoiler())
    with pytest.raises(RunError, match=r"'decode_head.batch_norm.running_mean' .*has moved; Hugging Face's Trainer"):
        trainer.train()


@pytest.mark.slow
def test_a_run_is_resumed_at_its_phase(tmp_path: Path) -> None:
    first = trainer_of(small_model(), tmp_path, num_train_epochs=3, save_strategy="epoch")
    attach(first, HOOKS, groups=GROUPS)
    first.train()
    again = trainer_of(small_model(), tmp_path, num_train_epochs=3)
    callback = attach(again, HOOKS, groups=GROUPS)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [(phase.first, phase.steps) for phase in callback.report.phases] == [(4, 2)]
    stateful = trainer_of(small_model(), tmp_path, num_train_epochs=3)
    attach(stateful, [*HOOKS, "ema"], groups=GROUPS)
    with pytest.raises(InputError, match="'ema' has a state"):
        stateful.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
