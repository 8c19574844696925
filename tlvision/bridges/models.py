"""Layer groups, taps and features of a model that another library has built."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NoReturn

from tlvision.plugin import Adapter, HasForeignModels, InputSpec, LayerGroup, Tap, capture
from tlvision.plugin.registry import usable_plugins
from tlvision.types import InputError

if TYPE_CHECKING:
    from torch import Tensor, nn

Forward = Callable[["nn.Module", "Tensor"], object]
"""Runs a model on images, (N, 3, H, W) as its own trainer gives them, without labels."""


def _call(module: nn.Module, images: Tensor) -> object:
    return module(images)


class GivenModel:
    """A model of no known family behind the attributes of `tlvision.plugin.Adapter` that bridges use.

    groups, taps: as for `tlvision.plugin.Adapter`.
    forward:      runs the model on images, for `features`.
    input_spec:   how its images are normalised; reading it raises RuntimeError until a bridge has set it.
    """

    module: nn.Module

    def __init__(
        self, module: nn.Module, groups: Sequence[LayerGroup], taps: Sequence[Tap] = (), forward: Forward = _call
    ) -> None:
        self.module, self.groups, self.taps = module, tuple(groups), tuple(taps)
        self._forward = forward
        self._input_spec: InputSpec | None = None

    @property
    def input_spec(self) -> InputSpec:
        """How the trainer that the model belongs to normalises images."""
        return self._input_spec or self._refuse("input_spec")

    @input_spec.setter
    def input_spec(self, spec: InputSpec) -> None:
        self._input_spec = spec

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        with capture(self.module, self.taps) as features:
            self._forward(self.module, images)
        return features

    def loss(self, images: Tensor, targets: object) -> NoReturn:
        """Raise RuntimeError: the trainer that the model belongs to computes losses."""
        self._refuse("loss")

    def predict(self, images: Tensor) -> NoReturn:
        """Raise RuntimeError: the trainer that the model belongs to predicts."""
        self._refuse("predict")

    def _refuse(self, name: str) -> NoReturn:
        raise RuntimeError(f"a model in the trainer of another library has no '{name}' here")


def find_adapter(
    module: nn.Module,
    groups: Sequence[LayerGroup] | None = None,
    taps: Sequence[Tap] = (),
    forward: Forward = _call,
) -> Adapter:
    """Return groups, taps and features of `module`.

    groups: its layer groups from input to output. None takes those of the plugin that knows the model, or else one
            group for each child of `module` (see `children_as_groups`).
    taps:   places for hooks that compare features; used with `groups`, and for models that no plugin knows.
    """
    if groups is None:
        for plugin in usable_plugins():
            found = plugin.describe(module) if isinstance(plugin, HasForeignModels) else None
            if found is not None:
                return found
        groups = children_as_groups(module)
    return GivenModel(module, groups, taps, forward)


def children_as_groups(module: nn.Module) -> tuple[LayerGroup, ...]:
    """Return one layer group for each child that has parameters or buffers, in the order in which they were added.

    The last one is the head, the others are the backbone. Tensors of the module itself are in the first. Raises
    InputError if there is no child with parameters.

    >>> from torch import nn
    >>> [(group.name, group.role) for group in children_as_groups(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))]
    [('0', 'backbone'), ('1', 'head')]
    """
    names = [
        name for name, child in module.named_children() if any(True for _ in (*child.parameters(), *child.buffers()))
    ]
    if not names:
        raise InputError("groups: the model has no child modules with parameters. Give its layer groups.")
    own = [*dict(module.named_parameters(recurse=False)), *dict(module.named_buffers(recurse=False))]
    paths = {name: (name,) for name in names} | {names[0]: (names[0], *own)}
    return tuple(LayerGroup(name, "head" if name == names[-1] else "backbone", paths[name]) for name in names)
