"""Changes from the classes of a file to the classes of a run: names only, ids follow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tlvision.types.errors import InputError, nearest


@dataclass(frozen=True, slots=True)
class ClassChanges:
    """Names of a file's classes that become other classes, or none.

    rename: {name in the file: name in the run}.
    merge:  {name in the run: names in the file}; the new class has the id of the first one that a file has.
    drop:   names in the file whose labels are left out.

    >>> changes = ClassChanges(merge={"vehicle": ("car", "bus")}, drop=("cat",))
    >>> changes.applied(("cat", "car", "dog", "bus"), "train.json", strict=True)
    {'vehicle': ['car', 'bus'], 'dog': ['dog']}
    """

    rename: Mapping[str, str] = field(default_factory=dict)
    merge: Mapping[str, Sequence[str]] = field(default_factory=dict)
    drop: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.rename or self.merge or self.drop)

    def targets(self) -> dict[str, str | None]:
        """Return {name in the file: name in the run, or None if dropped}; other names stay as they are."""
        found: dict[str, str | None] = dict(self.rename)
        found |= {old: new for new, names in self.merge.items() for old in names}
        return found | dict.fromkeys(self.drop)

    def applied(self, names: Sequence[str], where: str, *, strict: bool) -> dict[str, list[str]]:
        """Return {class of the run: its names in a file}, in the order of `names`.

        names:  the classes of the file.
        where:  the file, for messages.
        strict: whether the file must have the classes that are named here, as training data must. A file that already
                has the new name of a class need not have the old one.

        Raises InputError if a class is named that the file lacks, or a new name is that of another class of the file.
        """
        targets = self.targets()
        for old, new in targets.items():
            if strict and old not in names and new not in names and not self._partner(new, names):
                raise InputError(f"data.classes: {where} has no class '{old}'.{nearest(old, names)}")
        taken = [new for old, new in targets.items() if old in names and new in names and new not in targets]
        if taken:
            raise InputError(
                f"data.classes: {where} has a class '{taken[0]}' already. To join them, list it in merge: "
                f"{{{taken[0]}: [{taken[0]}, …]}}"
            )
        kept: dict[str, list[str]] = {}
        for name in names:
            new = targets.get(name, name)
            if new is not None:
                kept.setdefault(new, []).append(name)
        for new, members in self.merge.items():
            if new in kept:
                kept[new].sort(key=list(members).index)
        return kept

    def _partner(self, new: str | None, names: Sequence[str]) -> bool:
        """Return whether a file has another class that is merged into `new`."""
        return new is not None and any(name in names for name in self.merge.get(new, ()))
