"""Names of output files: unique on every file system, inside their folder, made in linear time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tlvision.files.names import common_folder, relative_names, stems_in, unique_stems

CASES = [
    (["a.jpg", "b.png"], ["a", "b"]),
    (["a.jpg", "a.png"], ["a_jpg", "a_png"]),
    (["a.jpg", "A.jpg"], ["a_jpg", "A_jpg-2"]),
    (["a.jpg", "a.png", "a_jpg.bmp"], ["a_jpg-2", "a_png", "a_jpg"]),
    (["sheet", "sheet", "x"], ["sheet", "sheet-2", "x"]),
    (["x/a.jpg", "y/a.jpg"], ["x/a", "y/a"]),
    (["e\u0301.png", "\u00e9.jpg"], ["e\u0301_png", "\u00e9_jpg"]),
    (["a.b.c.png", "a.b.png"], ["a.b.c", "a.b"]),
]


@pytest.mark.parametrize(("names", "expected"), CASES, ids=[str(names) for names, _ in CASES])
def test_stems_differ_also_where_upper_and_lower_case_are_one(names: list[str], expected: list[str]) -> None:
    found = unique_stems(names)
    assert found == expected
    assert len({stem.casefold() for stem in found}) == len(names)


def test_many_equal_names_stay_linear() -> None:
    names = ["cam.jpg"] * 30_000  # a quadratic search takes minutes
    assert len(set(unique_stems(names))) == 30_000


def test_names_never_leave_their_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in" / "a.png", tmp_path / "in" / ".." / ".." / "x.png"
    names = relative_names([inside, outside], tmp_path / "in")
    assert names[0] == "a.png"
    assert ".." not in names[1].split("/")
    assert not names[1].startswith("/")
    assert stems_in([inside], tmp_path / "in") == ["a"]
    assert common_folder([tmp_path / "a" / "x.png", tmp_path / "b" / "x.png"]) == tmp_path
