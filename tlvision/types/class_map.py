"""Class names are the identity; every index and id follows from them, here and nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tlvision.types.errors import InputError, listing, nearest
from tlvision.types.shown import has_control, is_encodable, shown

_LONGEST_NAME = 1000


@dataclass(frozen=True, slots=True)
class ClassMap:
    """The classes of a dataset or a model, in the order of the contiguous index.

    names:      one per class, unique, not empty.
    source_ids: the id that each class has in the file it came from (COCO category id): any distinct integers,
                0 and gaps included.

    Raises InputError for duplicate or empty names, names that UTF-8 cannot hold, duplicate ids, or unequal lengths.

    >>> classes = ClassMap(("cat", "dog"), (3, 90))
    >>> classes.index("dog"), classes.source_ids[1]
    (1, 90)
    """

    names: tuple[str, ...]
    source_ids: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.names) != len(self.source_ids):
            raise InputError(f"classes: {len(self.names)} names but {len(self.source_ids)} ids were given")
        for what, values in (("name", self.names), ("id", self.source_ids)):
            twice = sorted({str(value) for value, count in Counter(values).items() if count > 1})
            if twice:
                raise InputError(f"classes: {what} {listing(twice)} is used for more than one class. Make it unique.")
        if any(not name.strip() for name in self.names):
            raise InputError(f"classes: an empty class name was given in {shown(list(self.names))}")
        if wrong := [name for name in self.names if len(name) > _LONGEST_NAME]:
            raise InputError(f"classes: a class name of {len(wrong[0]):,} characters: {shown(wrong[0])}. Shorten it.")
        if wrong := [name for name in self.names if has_control(name)]:
            raise InputError(f"classes: control characters in the class name {shown(wrong[0])}. Write plain text.")
        if wrong := [name for name in self.names if not is_encodable(name)]:
            raise InputError(
                f"classes: half of a surrogate pair in the class name {shown(wrong[0])}. Write the character itself."
            )

    @classmethod
    def from_names(cls, names: Sequence[str]) -> ClassMap:
        """Build a map whose source ids are 1..n, as COCO files usually count."""
        return cls(tuple(names), tuple(range(1, len(names) + 1)))

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> ClassMap:
        """Read what `to_json` wrote (classes.json of a run, or a checkpoint's)."""
        names, ids = value.get("names"), value.get("source_ids")
        if not isinstance(names, list) or not isinstance(ids, list):
            raise InputError(f"classes: expected the keys 'names' and 'source_ids', got {shown(list(value))}")
        if wrong := [name for name in names if not isinstance(name, str)]:
            raise InputError(f"classes: a name must be a text, got {shown(wrong[0])}")
        if wrong := [i for i in ids if type(i) is not int]:
            raise InputError(f"classes: a source id must be an integer, got {shown(wrong[0])}")
        return cls(tuple(names), tuple(ids))

    def to_json(self) -> dict[str, object]:
        """Return plain lists for a JSON file."""
        return {"names": list(self.names), "source_ids": list(self.source_ids)}

    def __len__(self) -> int:
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the contiguous index of `name`; InputError with the nearest name if it is unknown."""
        try:
            return self.names.index(name)
        except ValueError:
            raise InputError(f"classes: no class '{name}'.{nearest(name, self.names)}") from None
