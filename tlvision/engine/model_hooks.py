"""Let model hooks change a model that was just built, and merge what they have added."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tlvision.files.json_files import read_object
from tlvision.hooks import Hook, ModelHook
from tlvision.hooks.generators import own_generators
from tlvision.types import InputError, listing

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tlvision.plugin import Adapter


def modify_model(hooks: Sequence[Hook], adapter: Adapter) -> list[str]:
    """Let the model hooks among `hooks` change the model, in their order; return their sentences for the user.

    Raises InputError if a hook finds nothing to change, or has replaced or renamed a parameter or buffer of the model.
    """
    notes: list[str] = []
    for hook in hooks:
        if isinstance(hook, ModelHook):
            before = dict(_tensors(adapter.module))
            with own_generators("modify", hook.key()):
                notes += hook.modify(adapter)
            now = dict(_tensors(adapter.module))
            if lost := [name for name, tensor in before.items() if now.get(name) is not tensor]:
                raise InputError(
                    f"hooks: '{hook.key()}' has replaced or renamed '{lost[0]}'. A model hook keeps the parameters and "
                    "buffers of the model under their names, and adds its own."
                )
    return notes


def merge_model(hooks: Sequence[Hook], adapter: Adapter) -> None:
    """Merge what the model hooks among `hooks` have added, the last one first; InputError if one cannot."""
    for hook in reversed(hooks):
        if isinstance(hook, ModelHook):
            hook.merge(adapter)


def refuse_unmerged(weights: str) -> None:
    """Raise InputError if a weight file lies in a checkpoint whose model has modules of a hook."""
    path = Path(weights)
    state = path.parent / "state.json"
    if not path.is_file() or not state.is_file():
        return
    names = read_object(state, "Restore the file, or use other weights.").get("model_hooks")
    if isinstance(names, list) and names:
        raise InputError(
            f"weights: '{weights}' holds parameters of the hook {listing(names)}, which would be left out. "
            "Write plain weights with `tlvision merge --run RUN --output FILE` and give that file."
        )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(module.named_parameters(), module.named_buffers())
