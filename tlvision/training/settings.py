"""The `train` section of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tlvision.data.settings import MAX_SEED
from tlvision.types import InputError

MAX_EPOCHS = 1_000_000


class TrainSettings(BaseModel):
    """Optimization. Steps are optimizer steps: `accumulate` micro-batches on every process.

    `lr: auto` chooses the peak learning rate before training. Use it if the pretrained weights have your classes by
    name (people, cars), because the default rate may be too high for them.

    - Candidates are 1e-3, 3e-4, 1e-4 and 3e-5 for `adamw`, and 1e-2, 3e-3, 1e-3 and 3e-4 for `sgd`. They are
      tried from the highest down, as long as the last one would be chosen.
    - Each candidate trains from the run's start weights on three quarters of the training images. It takes a tenth of
      the epochs, at least 12 optimizer steps, with warm-up and decay of that length.
    - Of the rates whose loss on the other quarter is within 10 % of the lowest, the one with the best `evaluate.select`
      there is chosen; of those within 5 % of it, the lowest rate. If that score is below 0.02, the loss decides. Val
      images are not used. A rate whose loss is not finite is not chosen.
    - All training images are used afterwards. The run is bit-identical to one with that rate given as a number.
    - A run shorter than two probes takes the highest rate.
    - The run's `config.yaml` has the number, so `--resume` does not choose again. `rate.json`, `ledger.json`,
      `log.jsonl` and the report have the scores.
    - Not with `data.target` or `data.source_val`: labels of the source would choose the rate for the target.
    - Rates of the hook `lr_groups` are not changed.

    Short runs prefer higher rates than long runs, so a probe may choose 1e-3 although 3e-4 is better at the end.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: int = Field(ge=1, le=MAX_EPOCHS, description="Passes over the training images.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="AdamW, or SGD with Nesterov momentum.")
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        1e-3, description="Peak learning rate. auto: chosen by short runs on a part of the training images."
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="Momentum of SGD, or first beta of AdamW.")
    weight_decay: float = Field(5e-4, ge=0, description="Weight decay. Norms and biases have none.")
    schedule: Literal["cosine", "linear", "constant", "step"] = Field(
        "cosine", description="Schedule after the warm-up. `step`: lr / 10 after 2/3 of the run, lr / 100 after 11/12."
    )
    final_lr: float = Field(0.01, ge=0, le=1, description="End of the schedule (fraction of `lr`).")
    warmup: float = Field(0.05, ge=0, lt=1, description="Fraction of the run in which the rate rises from 0.")
    accumulate: int = Field(1, ge=1, le=MAX_EPOCHS, description="Micro-batches per optimizer step.")
    clip: float = Field(10.0, gt=0, description="Maximum norm of the gradient.")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto", description="Precision of the forward pass. auto: bf16 if the GPU supports it."
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Device. auto: the first GPU, or the CPU if there is none."
    )
    seed: int = Field(0, ge=0, le=MAX_SEED, description="Seed of weights, order of images and augmentation.")
    verify: Literal["first_steps", "every_step", "off"] = Field(
        "first_steps",
        description="When to verify that what is frozen does not change. `first_steps`: of each phase.",
    )

    @property
    def base_lr(self) -> float:
        """Return `lr` as a number. Raises InputError if it is still "auto", which only the start of a run resolves.

        >>> TrainSettings(epochs=1, lr=3e-4).base_lr
        0.0003
        """
        if isinstance(self.lr, str):
            raise InputError("train.lr: 'auto' is resolved when a run starts. Set a number here, such as 1e-3.")
        return self.lr
