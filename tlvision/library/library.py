"""Models under names and versions, with where they come from."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tlvision.files.atomic import copy_folder
from tlvision.files.inputs import file_hash
from tlvision.library.address import SCHEME, Address, parse
from tlvision.library.describe import WEIGHTS, describe
from tlvision.library.mlflow_store import PREFIX, MlflowStore
from tlvision.library.store import REMEDY, FolderStore, Store
from tlvision.types import InputError, listing, nearest

VARIABLE = "TLVISION_LIBRARY"


@dataclass(frozen=True, slots=True)
class Entry:
    """One version of a model. folder: of its files. about: the content of entry.json."""

    address: Address
    folder: Path
    about: Mapping[str, Any]

    @property
    def kind(self) -> str:
        """ "run" or "bundle"."""
        return str(self.about["kind"])


class Library:
    """Models in a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def add(self, source: Path, name: str, note: str = "") -> tuple[Entry, bool]:
        """Keep a copy of a finished run or a bundle as the next version of a name; return it, and whether it is new.

        The same content as the newest version is not kept twice. Raises InputError if `source` is neither, RunError if
        the library cannot be written.
        """
        found = describe(source)
        home = parse(name).name
        hashes = {each: file_hash(source / each) for each in found.files}
        newest = self.store.versions(home)[-1:]
        if newest:
            entry = self.entry(Address(home, newest[0]))
            if entry.about["files"] == hashes:
                return entry, False
        about = {
            "name": home,
            "kind": found.kind,
            "added": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": note,
            **found.facts,
            "weights_sha256": found.weights,
            "parent": self._parent(found.starts),
            "bytes": sum((source / each).stat().st_size for each in found.files),
            "files": hashes,
        }
        return self.entry(Address(home, self.store.publish(home, source, found.files, about))), True

    def entries(self) -> Iterator[Entry]:
        """Yield all versions, by name and version."""
        for name in self.store.names():
            for version in self.store.versions(name):
                yield self._read(Address(name, version))

    def entry(self, address: Address) -> Entry:
        """Return a version, the newest if the address names none; InputError if there is no such model."""
        versions = self.store.versions(address.name)
        if not versions:
            names = self.store.names()
            known = f"It has {listing(names)}" if names else "It is empty"
            raise InputError(
                f"models: the library '{self.store}' has no model '{address.name}'.{nearest(address.name, names)} "
                f"{known}; see tlvision models list"
            )
        if address.version is not None and address.version not in versions:
            raise InputError(
                f"models: '{address.name}' has no version {address.version} in '{self.store}'; it has "
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
        self.store.fetch(entry.address, name)
        if not path.is_file() or file_hash(path) != entry.about["files"].get(name):
            raise InputError(f"models: '{path}' is missing or has changed since it was added. {REMEDY}")
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
        about, folder = self.store.read(address)
        missing = {"kind", "files", "parent", "weights_sha256"} - about.keys()
        if missing:
            raise InputError(
                f"models: the entry of '{address}' in '{self.store}' is damaged: it has no '{min(missing)}'. {REMEDY}"
            )
        return Entry(address, folder, about)


def open_library(place: str | None = None) -> Library:
    """Return the library at a place, at that of the environment variable, or in ~/.tlvision/library.

    place: a folder, or `mlflow:` with the address of an MLflow server or store.
    """
    chosen = place or os.environ.get(VARIABLE)
    if chosen and chosen.startswith(PREFIX):
        return Library(MlflowStore(chosen.removeprefix(PREFIX)))
    return Library(FolderStore(Path(chosen) if chosen else Path.home() / ".tlvision" / "library"))


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
