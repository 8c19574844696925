"""Write the weights of a run whose hooks have changed the model as plain weights of the model family."""

from __future__ import annotations

from pathlib import Path

from tlvision.engine.model import load
from tlvision.engine.model_hooks import merge_model
from tlvision.files.outputs import check_file
from tlvision.types import InputError

COMMAND = "merge"


def merge_run(run: Path, output: Path) -> tuple[str, ...]:
    """Write a run's best weights to `output` (.safetensors) without its model hooks, and return the names of those.

    The file has the keys of the model family and the class names: `model.weights` of a config takes it, without the
    hook. Predictions are those of the run within rounding. The run itself stays as it is.

    Raises InputError if the run has no model hook, if one cannot be merged, or if `output` exists or cannot be written.
    """
    from tlvision.training.checkpoint import save_weights

    if output.suffix != ".safetensors":
        raise InputError(f"merge: --output: expected a file name that ends in .safetensors, got '{output}'")
    check_file(output, COMMAND, inputs=[run])
    model = load(run, device="cpu")
    if not model.model_hooks:
        raise InputError(
            f"merge: no hook of '{run}' has changed the model, so its weights are plain: use "
            f"'{run / 'checkpoints' / 'best' / 'model.safetensors'}'."
        )
    merge_model(model.model_hooks, model.adapter)
    output.parent.mkdir(parents=True, exist_ok=True)
    save_weights(output, model.adapter.module.state_dict(), model.classes)
    return tuple(hook.key() for hook in model.model_hooks)
