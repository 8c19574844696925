from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from frozen_bits import copied, moved, table
from tlvision.plugin import LayerGroup
from tlvision.types import InputError, RunError

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


def small_model() -> Any:
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[3, 3], strides=[2, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8, num_labels=2, drop_path_rate=0.2,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


def trainer_of(model: Any, out: Path, **changes: Any) -> Any:
    torch.manual_seed(0)
    rows = [
        {"pixel_values": torch.rand(3, 16, 16), "labels": torch.randint(0, 2, (16, 16))} for _ in range(8)
    ]
    settings = {
        "output_dir": str(out), "num_train_epochs": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
        "report_to": [], "disable_tqdm": True, "use_cpu": True, "save_strategy": "no", "weight_decay": 0.1,
        "logging_strategy": "no",
    }  # fmt: skip
    args = transformers.TrainingArguments(**settings | changes)
    return transformers.Trainer(model=model, args=args, train_dataset=rows, eval_dataset=rows[:4])


def test_frozen_parts_are_bit_equal_and_proved_phase_by_phase(tmp_path: Path) -> None:
    from tlvision.bridges.transformers import attach

    model = small_model()
    before = copied(model)
    trainer = trainer_of(model, tmp_path, num_train_epochs=4)
    groups = (
        LayerGroup("block1", "backbone", tuple(f"segformer.stages.0" for _ in "1")),
    ) if False else None
    callback = attach(trainer, [{"gradual_unfreeze": {"every": 2}}], groups=groups)
    trainer.train()
    print(callback.report, moved(before, model))
