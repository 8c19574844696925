"""Where a library keeps its models: names, numbered versions, and the files of each."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tlvision.files.json_files import read_object, write_json
from tlvision.library.address import Address
from tlvision.types import RunError

ENTRY, FILES = "entry.json", "files"
REMEDY = "Restore the library from a copy, or add the model again."


class Store(Protocol):
    """Keeps versions, which are never changed. `str()` of it is its place, for messages."""

    def names(self) -> Sequence[str]:
        """Return the names that have versions, in order."""
        ...

    def versions(self, name: str) -> Sequence[int]:
        """Return the versions of a name, ascending; empty if there is none."""
        ...

    def read(self, address: Address) -> tuple[Mapping[str, Any], Path]:
        """Return the content of a version's entry.json, and the folder that its files are in, or come to be in."""
        ...

    def fetch(self, address: Address, name: str) -> None:
        """Bring a file of a version into its folder, if the store has it."""
        ...

    def publish(self, name: str, source: Path, files: Sequence[str], about: Mapping[str, Any]) -> int:
        """Keep files of `source` as the next version of a name, whole or not at all, and return its number.

        Raises RunError if the store cannot be written.
        """
        ...


class FolderStore:
    """STORE/NAME/VERSION/ holds entry.json and the files.

    A new version is written beside the others under a name of its own and renamed at the end, so that several people
    can add to one folder, and a version that can be seen is whole. The folder need not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __str__(self) -> str:
        return str(self.folder)

    def names(self) -> list[str]:
        """Return the folders with versions."""
        if not self.folder.is_dir():
            return []
        return sorted(each.name for each in self.folder.iterdir() if each.is_dir() and self.versions(each.name))

    def versions(self, name: str) -> list[int]:
        """Return the folders with numbers."""
        home = self.folder / name
        if not home.is_dir():
            return []
        return sorted(int(each.name) for each in home.iterdir() if each.name.isdecimal() and each.is_dir())

    def read(self, address: Address) -> tuple[dict[str, Any], Path]:
        """Return entry.json and the folder of the files; InputError if it cannot be read."""
        place = self.folder / address.name / str(address.version)
        return read_object(place / ENTRY, REMEDY), place / FILES

    def fetch(self, address: Address, name: str) -> None:
        """Do nothing: all files are there."""

    def publish(self, name: str, source: Path, files: Sequence[str], about: Mapping[str, Any]) -> int:
        """Copy the files."""
        home = self.folder / name
        try:
            home.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=home, prefix=".part-") as part:
                for each in files:
                    target = Path(part) / "new" / FILES / each
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(source / each, target)
                return self._place(Path(part) / "new", home, about)
        except OSError as error:
            raise RunError(f"models: the library '{self}' cannot be written ({error.strerror})") from error

    def _place(self, part: Path, home: Path, about: Mapping[str, Any]) -> int:
        """Give a complete folder the next free number."""
        version = max(self.versions(home.name), default=0) + 1
        while True:
            write_json(part / ENTRY, {**about, "version": version}, indent=1)
            try:
                part.rename(home / str(version))  # an error if somebody else has just taken the number
                return version
            except OSError:
                if not (home / str(version)).exists():
                    raise
                version += 1
