"""The `train` section of a config."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tlvision.types import InputError

MAX_SEED = 2**32 - 1
"""numpy's generators take no larger seed."""
MAX_EPOCHS = 1_000_000


class TrainSettings(BaseModel):
    """How to train.

    Steps are optimizer steps: `accumulate` micro-batches of `data.batch.labelled` images on every process.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: int = Field(ge=1, le=MAX_EPOCHS, description="passes over the training images")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="adamw, or sgd with Nesterov momentum")
    lr: Annotated[float, Field(gt=0)] | Literal["auto"] = Field(
        1e-3, description="peak learning rate; auto: chosen by short runs on a part of the training images"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="SGD's momentum, AdamW's first beta")
    weight_decay: float = Field(5e-4, ge=0, description="none on norms and biases")
    schedule: Literal["cosine", "linear", "constant", "step"] = Field(
        "cosine", description="after the warm-up; step: a tenth of the rate from 2/3 of the run, a hundredth from 11/12"
    )
    final_lr: float = Field(0.01, ge=0, le=1, description="where the schedule ends, as a fraction of lr")
    warmup: float = Field(0.05, ge=0, lt=1, description="fraction of the run in which the rate rises from 0")
    accumulate: int = Field(1, ge=1, le=MAX_EPOCHS, description="micro-batches summed before one optimizer step")
    clip: float = Field(10.0, gt=0, description="largest norm of the gradient")
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="auto: bf16 where the GPU has it")
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="auto: a GPU if there is one")
    seed: int = Field(0, ge=0, le=MAX_SEED, description="of weights, order of images and augmentation")
    verify: Literal["first_steps", "every_step", "off"] = Field(
        "first_steps", description="when to prove that what is frozen is frozen; first_steps: of each phase"
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
