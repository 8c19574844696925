"""Layer groups: the one depth map from which freezing, unfreezing and layer-wise learning rates follow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from tlvision.plugin.protocol import ROLES, LayerGroup
from tlvision.types import InputError, counted, listing, nearest

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class GroupMap:
    """The groups of one model with every parameter and buffer sorted into them by identity.

    groups:     as the adapter declares them, input to output; the depth of a group is its position.
    parameters: for each parameter name (first name, where one tensor has several), the depth of its group.
    buffers:    the same for buffers.
    modules:    for each module at or below one that a group names, the depth of that group.
    norms:      the parameter names that belong to normalisation layers (scale and shift).
    bare_norms: the names of normalisation layers with running statistics and no parameters; not those whose class name
                says that they are frozen (torchvision's FrozenBatchNorm2d), which nothing ever changes.
    """

    groups: tuple[LayerGroup, ...]
    parameters: dict[str, int]
    buffers: dict[str, int]
    modules: dict[str, int]
    norms: frozenset[str] = frozenset()
    bare_norms: tuple[str, ...] = ()

    def names(self) -> tuple[str, ...]:
        """Return the group names from input to output."""
        return tuple(group.name for group in self.groups)

    def distances(self) -> tuple[int, ...]:
        """Return for each group how many groups lie behind it on the longest way to an output of the model, from 0 on.

        >>> groups = (LayerGroup("neck", "neck", ("0",)), LayerGroup("boxes", "head", ("1",)),
        ...           LayerGroup("masks", "head", ("2",), reads=("neck",)))
        >>> GroupMap(groups, {}, {}, {}).distances()
        (1, 0, 0)
        """
        found = [0] * len(self.groups)
        for depth in reversed(range(len(self.groups))):  # whatever reads a group comes after it
            for source in _sources(self.groups, depth):
                found[source] = max(found[source], found[depth] + 1)
        return tuple(found)

    def depth_of(self, name: str) -> int:
        """Return the position of the group called `name`; InputError with the nearest name where there is none."""
        try:
            return self.names().index(name)
        except ValueError:
            raise InputError(f"no layer group '{name}'.{nearest(name, self.names())}") from None

    def with_role(self, role: str) -> tuple[int, ...]:
        """Return the depths of all groups of `role`; InputError if no group has it."""
        depths = tuple(depth for depth, group in enumerate(self.groups) if group.role == role)
        if not depths:
            present = [known for known in ROLES if any(group.role == known for group in self.groups)]
            raise InputError(f"no layer group has the role '{role}'.{nearest(role, present)}")
        return depths

    def matching(self, pattern: str) -> tuple[str, ...]:
        """Return the parameter names that match the glob `pattern`, anchored at both ends.

        ``model.1.*`` matches ``model.1.conv.weight`` and not ``model.10.conv.weight``. InputError if none matches.
        """
        names = tuple(name for name in self.parameters if fnmatchcase(name, pattern))
        if not names:
            raise InputError(f"no parameter matches '{pattern}'.{nearest(pattern, self.parameters)}")
        return names


def map_groups(module: nn.Module, groups: Sequence[LayerGroup]) -> GroupMap:
    """Sort every parameter and buffer of `module` into `groups`, by identity.

    Raises InputError that names what is wrong: a group name used twice, a group that reads what is not before it, a
    dotted name that is not in the module, a tensor that is in two groups, or tensors that are in none.
    """
    names = [group.name for group in groups]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise InputError(f"layer groups: the name '{min(twice)}' is used more than once")
    owner: dict[int, int] = {}
    modules: dict[str, int] = {}
    for depth, group in enumerate(groups):
        _sources(groups, depth)
        for path in group.modules:
            _claim(module, path, depth, groups, owner, modules)
    parameters = {name: owner.get(id(tensor), -1) for name, tensor in module.named_parameters()}
    buffers = {name: owner.get(id(tensor), -1) for name, tensor in module.named_buffers()}
    orphans = [name for name, depth in (parameters | buffers).items() if depth < 0]
    if orphans:
        raise InputError(f"layer groups: no group has {counted(len(orphans), 'tensor')}: {listing(orphans)}")
    norms, bare = _find_norms(module)
    return GroupMap(tuple(groups), parameters, buffers, modules, norms, bare)


def _sources(groups: Sequence[LayerGroup], depth: int) -> list[int]:
    """Return the depths of the groups that the one at `depth` reads; InputError if one is not before it."""
    reads = groups[depth].reads
    if reads is None:
        return [depth - 1] if depth else []
    before = [group.name for group in groups[:depth]]
    for name in reads:
        if name not in before:
            raise InputError(
                f"layer groups: '{groups[depth].name}' reads '{name}', which is no group before it."
                f"{nearest(name, before)}"
            )
    return [before.index(name) for name in reads]


def _find_norms(module: nn.Module) -> tuple[frozenset[str], tuple[str, ...]]:
    """Return the parameter names of all norms, and the names of those with nothing but buffers that may move."""
    known = {id(parameter): name for name, parameter in module.named_parameters()}
    owned: set[str] = set()
    bare = []
    for path, child in module.named_modules():
        if not is_norm(child):
            continue
        parameters = list(child.parameters(recurse=False))
        owned.update(known[id(parameter)] for parameter in parameters)
        frozen = "frozen" in type(child).__name__.lower()
        if not parameters and not frozen and any(True for _ in child.buffers(recurse=False)):
            bare.append(path)
    return frozenset(owned), tuple(bare)


def is_norm(module: nn.Module) -> bool:
    """Return whether `module` is a normalisation layer: one of torch's, or a leaf that its class name calls a norm."""
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    if isinstance(module, _NormBase | nn.GroupNorm | nn.LayerNorm):
        return True
    is_leaf = next(module.children(), None) is None
    return is_leaf and "norm" in type(module).__name__.lower()


def _claim(  # noqa: PLR0917
    module: nn.Module,
    path: str,
    depth: int,
    groups: Sequence[LayerGroup],
    owner: dict[int, int],
    modules: dict[str, int],
) -> None:
    for name, tensor in _tensors_at(module, path, groups[depth].name):
        other = owner.setdefault(id(tensor), depth)
        if other != depth:
            raise InputError(f"layer groups: '{name}' is in '{groups[other].name}' and in '{groups[depth].name}'")
    modules.update(dict.fromkeys(_modules_at(module, path), depth))


def _tensors_at(module: nn.Module, path: str, group: str) -> Iterator[tuple[str, Tensor]]:
    """Yield name and tensor of everything at or below the dotted name `path`."""
    submodules = dict(module.named_modules())
    if path in submodules:
        prefix = f"{path}." if path else ""
        below = submodules[path]
        yield from ((prefix + name, tensor) for name, tensor in below.named_parameters())
        yield from ((prefix + name, tensor) for name, tensor in below.named_buffers())
        return
    single = dict(module.named_parameters()) | dict(module.named_buffers())
    if path not in single:
        raise InputError(
            f"layer group '{group}': the model has no '{path}'.{nearest(path, submodules.keys() | single)}"
        )
    yield path, single[path]


def _modules_at(module: nn.Module, path: str) -> Iterator[str]:
    """Yield the names of the module at `path` and of all below it; nothing if it names a tensor."""
    submodules = dict(module.named_modules())
    if path in submodules:
        prefix = f"{path}." if path else ""
        for name, _ in submodules[path].named_modules():
            yield (prefix + name).rstrip(".")
