"""Read logs of records, and the reference of a bundle; what is damaged is counted and named."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Generic, TypeVar

from tlvision.files.inputs import check_file
from tlvision.monitoring.record import Record, decode
from tlvision.monitoring.records import part_path
from tlvision.monitoring.reference import NAME
from tlvision.types import InputError, counted, listing

_LONGEST = 2**20
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_MAX_CANDIDATES = 2000
T = TypeVar("T")


class Thinned(Generic[T]):
    """Keeps at most twice `most` of any number of items, evenly spread over them, without storing the others."""

    def __init__(self, most: int) -> None:
        self._most, self._step, self._count = most, 1, 0
        self._kept: list[T] = []

    def add(self, item: T) -> None:
        """Take an item; every second of those kept is dropped when there are too many."""
        if self._count % self._step == 0:
            self._kept.append(item)
            if len(self._kept) >= 2 * self._most:
                self._kept = self._kept[::2]
                self._step *= 2
        self._count += 1

    def items(self, key: Callable[[T], datetime]) -> list[T]:
        """Return at most `most` items in the order of a key, evenly spread.

        >>> kept = Thinned[int](3)
        >>> for number in range(65):
        ...     kept.add(number)
        >>> kept.items(lambda number: datetime(2000, 1, 1) + timedelta(number))
        [0, 32, 64]
        """
        items = sorted(self._kept, key=key)
        if len(items) <= self._most:
            return items
        last = max(self._most - 1, 1)
        return [items[round(place * (len(items) - 1) / last)] for place in range(self._most)]


@dataclass(slots=True)
class LogContent:
    """What was read of logs.

    records:    at most as many as asked for, evenly spread, by time. count: of all records of that time.
    candidates: records whose image is at hand, by time, `_MAX_CANDIDATES` at most, with the image.
    damaged:    number of lines that hold no record. notes: sentences on them.
    """

    records: list[Record]
    count: int
    candidates: list[tuple[Record, Path]]
    damaged: int
    notes: list[str] = field(default_factory=list)


def read_reference(folder: Path) -> list[Record]:
    """Return the records of the validation images of a bundle, whose files `read_bundle` has checked.

    Raises InputError if the bundle has none.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(
            f"monitor: the bundle '{folder}' has no {NAME}: an earlier tlvision has exported it. Export the run again, "
            "or give a log of a time when all was well with --against"
        )
    with path.open("rb") as file:
        try:
            return [decode(line) for line in file]
        except ValueError:
            raise InputError(f"monitor: '{path}' is damaged. Export the run again") from None


def read_logs(
    logs: Sequence[Path],
    bundle: str,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    limit: int,
    candidates: bool = False,
) -> LogContent:
    """Read logs with their rotated parts.

    bundle:       hash of the bundle that the records must be of.
    since, until: from and before which time records count; None for all.
    limit:        records that are kept. candidates: also keep records whose image exists.

    Raises InputError if a file cannot be read, holds no record but other text, or records of another bundle.
    """
    kept, images = Thinned[Record](limit), Thinned[tuple[Record, Path]](_MAX_CANDIDATES)
    count = damaged = 0
    notes: list[str] = []
    for path in _parts(logs):
        bad: list[int] = []
        good = 0
        for number, line in enumerate(_lines(path), start=1):
            try:
                record = decode(line)
            except ValueError:
                bad.append(number)
                continue
            good += 1
            _check_bundle(path, record, bundle)
            if (since is not None and record.time < since) or (until is not None and record.time >= until):
                continue
            count += 1
            kept.add(record)
            image = _image(path, record) if candidates else None
            if image is not None:
                images.add((record, image))
        if bad and not good:
            raise InputError(f"monitor: '{path}' holds no record. Give a log that 'tlvision predict --log' has written")
        damaged += len(bad)
        if bad:
            notes.append(
                f"{path.name}: {counted(len(bad), 'line')} without a whole record, left out: {listing(bad, 5)}"
            )
    chosen = images.items(lambda pair: pair[0].time)
    return LogContent(kept.items(lambda record: record.time), count, chosen, damaged, notes)


def _check_bundle(path: Path, record: Record, bundle: str) -> None:
    if record.bundle != bundle:
        raise InputError(
            f"monitor: '{path}' has records of another bundle ({record.bundle or 'a reference'}), and this one is "
            f"{bundle}. Give the bundle that has written the log, or another log"
        )


def _parts(logs: Sequence[Path]) -> list[Path]:
    """Return the files of logs, oldest parts first, each once."""
    found: dict[Path, None] = {}
    for log in logs:
        check_file(log, "a log of records")
        numbers = [path.name.removeprefix(f"{log.name}.") for path in log.parent.glob(f"{_literal(log.name)}.*")]
        for number in sorted((int(text) for text in numbers if re.fullmatch(r"[1-9]\d{0,8}", text)), reverse=True):
            found[check_file(part_path(log, number), "a log of records")] = None
        found[log] = None
    return list(found)


def _literal(name: str) -> str:
    import glob

    return glob.escape(name)


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file; one that is longer than any record comes in pieces, none of which is a record."""
    try:
        with path.open("rb") as file:
            while line := file.readline(_LONGEST):
                if line.strip():
                    yield line
    except OSError as error:
        raise InputError(f"monitor: '{path}' cannot be read ({error.strerror})") from None


def _image(log: Path, record: Record) -> Path | None:
    """Return the copy of an image, or its file; None if neither exists."""
    places = [log.parent / record.copy] if record.copy else []
    places += [Path(record.file)] if record.file else []
    for place in places:
        try:
            if place.is_file():
                return place
        except (OSError, ValueError):
            continue
    return None


def parse_time(text: str, option: str, now: datetime) -> datetime:
    """Return a time with time zone: ISO 8601 (UTC if it names no zone), or so long before now: 90m, 12h, 7d.

    >>> parse_time("2d", "--since", datetime(2030, 1, 3, tzinfo=UTC)).isoformat()
    '2030-01-01T00:00:00+00:00'
    """
    ago = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if ago:
        return now - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise InputError(
            f"monitor: {option} '{text}' is no time. Give one such as 2030-01-31, 2030-01-31T08:00, 12h or 7d"
        ) from None
    return time if time.tzinfo else time.replace(tzinfo=UTC)
