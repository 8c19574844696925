"""A folder with models under names and versions: LIBRARY/NAME/VERSION/ holds entry.json and the files.

Versions are never changed. A new one is written beside the others under a name of its own and renamed at the end, so
that several people can add to one folder, and a version that can be seen is whole.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlvision.files.atomic import copy_folder
from tlvision.files.inputs import file_hash
from tlvision.files.json_files import read_object, write_json
from tlvision.library.address import SCHEME, Address, parse
from tlvision.library.describe import WEIGHTS, describe
from tlvision.types import InputError, RunError, listing, nearest

VARIABLE = "TLVISION_LIBRARY"
ENTRY, FILES = "entry.json", "files"
_REMEDY = "Restore the library from a copy, or add the model again."


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a model. folder: of its files. about: the content of entry.json."""

    address: Address
    folder: Path
    about: dict[str, Any]

    @property
    def kind(self) -> str:
        """ "run" or "bundle"."""
        return str(self.about["kind"])


class Library:
    """Models in a folder, which need not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, source: Path, name: str, note: str = "") -> tuple[Entry, bool]:
        """Keep a copy of a finished run or a bundle as the next version of a name; return it, and whether it is new.

        The same content as the newest version is not kept twice. Raises InputError if `source` is neither, RunError if
        the library cannot be written.
        """
        found = describe(source)
        home = self.folder / parse(name).name
        hashes = {each: file_hash(source / each) for each in found.files}
        newest = self._versions(home)[-1:]
        if newest:
            entry = self.entry(Address(home.name, newest[0]))
            if entry.about["files"] == hashes:
                return entry, False
        about = {
            "name": home.name,
            "kind": found.kind,
            "added": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": note,
            **found.facts,
            "weights_sha256": found.weights,
            "parent": self._parent(found.starts),
            "files": hashes,
        }
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home, prefix=".part-") as part:
                for each in found.files:
                    target = Path(part) / "new" / FILES / each
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / each, target)
                version = self._place(Path(part) / "new", home, about)
        except OSError as error:
            raise RunError(f"models: the library '{self.folder}' cannot be written ({error.strerror})") from error
        return self.entry(Address(home.name, version)), True

    def _place(self, part: Path, home: Path, about: dict[str, Any]) -> int:
        """Give a complete folder the next free number."""
        version = max(self._versions(home), default=0) + 1
        while True:
            write_json(part / ENTRY, {**about, "version": version}, indent=1)
            try:
                part.rename(home / str(version))  # an error if somebody else has just taken the number
                return version
            except OSError:
                if not (home / str(version)).exists():
                    raise
                version += 1

    def entries(self) -> Iterator[Entry]:
        """Yield all versions, by name and version."""
        if self.folder.is_dir():
            for home in sorted(each for each in self.folder.iterdir() if each.is_dir()):
                for version in self._versions(home):
                    yield self._read(Address(home.name, version))

    def entry(self, address: Address) -> Entry:
        """Return a version, the newest if the address names none; InputError if there is no such model."""
        home = self.folder / address.name
        versions = self._versions(home)
        if not versions:
            names = sorted({each.address.name for each in self.entries()})
            known = f"It has {listing(names)}" if names else "It is empty"
            raise InputError(
                f"models: the library '{self.folder}' has no model '{address.name}'.{nearest(address.name, names)} "
                f"{known}; see tlvision models list"
            )
        if address.version is not None and address.version not in versions:
            raise InputError(
                f"models: '{address.name}' has no version {address.version} in '{self.folder}'; it has "
                f"{listing(map(str, versions))}"
            )
        return self._read(Address(address.name, address.version or versions[-1]))

    def get(self, address: Address, out: Path) -> Entry:
        """Copy a version into the new folder `out`, and compare every file with its sha256.

        Raises InputError if `out` exists, or a file of the library is missing or has changed.
        """
        if out.exists():
            raise InputError(f"models: '{out}' exists; give a new folder")
        entry = self.entry(address)
        for name in entry.about["files"]:
            self.check(entry, name)
        copy_folder(entry.folder, out)
        return entry

    def weights(self, address: Address) -> Path:
        """Return the weight file of a run; InputError if it is a bundle, or the file has changed."""
        entry = self.entry(address)
        if entry.kind != "run":
            raise InputError(
                f"weights: '{SCHEME}{entry.address}' is a bundle, whose graphs cannot be trained; use the run that it "
                f"was exported from{f', {parent}' if (parent := entry.about['parent']['model']) else ''}"
            )
        return self.check(entry, WEIGHTS)

    def check(self, entry: Entry, name: str) -> Path:
        """Return the path of a file; InputError if it is missing or has changed since it was added."""
        path = entry.folder / name
        if not path.is_file() or file_hash(path) != entry.about["files"].get(name):
            raise InputError(f"models: '{path}' is missing or has changed since it was added. {_REMEDY}")
        return path

    def children(self, address: Address) -> list[Address]:
        """Return the models that were made from this one."""
        return [each.address for each in self.entries() if each.about["parent"]["model"] == str(address)]

    def _parent(self, starts: Any) -> dict[str, Any]:
        """Return where weights come from; "model" is the address of the entry that holds them, None if none does."""
        digest = starts["sha256"]
        owners = [] if digest is None else [
            str(each.address) for each in self.entries() if each.about["weights_sha256"] == digest
        ]  # fmt: skip
        return {"source": starts["source"], "sha256": digest, "model": owners[-1] if owners else None}

    def _read(self, address: Address) -> Entry:
        place = self.folder / address.name / str(address.version)
        about = read_object(place / ENTRY, _REMEDY)
        missing = {"kind", "files", "parent", "weights_sha256"} - about.keys()
        if missing:
            raise InputError(f"models: '{place / ENTRY}' is damaged: it has no '{min(missing)}'. {_REMEDY}")
        return Entry(address, place / FILES, about)

    @staticmethod
    def _versions(home: Path) -> list[int]:
        """Return the numbers below a name, ascending."""
        if not home.is_dir():
            return []
        return sorted(int(each.name) for each in home.iterdir() if each.name.isdecimal() and each.is_dir())


def open_library(folder: str | None = None) -> Library:
    """Return the library in `folder`, in that of the environment variable, or in ~/.tlvision/library."""
    chosen = folder or os.environ.get(VARIABLE)
    return Library(Path(chosen) if chosen else Path.home() / ".tlvision" / "library")


def is_address(weights: str) -> bool:
    """Return whether `model.weights` names a model of a library."""
    return weights.startswith(SCHEME)


def pinned(weights: str) -> str:
    """Return an address with its version; other weights as they are. InputError if there is no such model."""
    if not is_address(weights):
        return weights
    return f"{SCHEME}{open_library().entry(parse(weights)).address}"


def weights_hash(weights: str) -> str | None:
    """Return the sha256 of the weights, None of a name that is no file.

    Of a library that is away it is None too: a run that is resumed does without it.
    """
    if not is_address(weights):
        return file_hash(Path(weights)) if Path(weights).is_file() else None
    try:
        return str(open_library().entry(parse(weights)).about["weights_sha256"])
    except InputError:
        return None


def local_weights(weights: str) -> str:
    """Return the path of the file that an address means; other weights as they are. Errors as `Library.weights`."""
    return str(open_library().weights(parse(weights))) if is_address(weights) else weights
