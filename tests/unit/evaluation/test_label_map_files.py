"""Two folders of label maps in, the numbers of class_iou out; and what is refused, with the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tlvision.evaluation import class_iou, label_map_iou
from tlvision.formats.label_maps import write_label_map
from tlvision.types import InputError

NAMES = ("sky", "road", "car")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    rng = np.random.default_rng(0)
    for side in ("truth", "found"):
        (tmp_path / side / "left").mkdir(parents=True)
        for number in range(70):  # more than one slice of work
            labels = rng.integers(0, 3, (9, 11))
            labels[0, 0] = 255 if side == "truth" else 0
            write_label_map(tmp_path / side / "left" / f"{number}.png", labels)
    return tmp_path / "truth", tmp_path / "found"


def test_folders_give_what_pairs_give(folders: tuple[Path, Path]) -> None:
    from PIL import Image

    stems = [f"left/{number}.png" for number in range(70)]
    pairs = [tuple(np.asarray(Image.open(folder / stem)) for folder in folders) for stem in stems]
    assert label_map_iou(*folders, NAMES) == class_iou(pairs, NAMES)  # type: ignore[arg-type]
    assert label_map_iou(*folders, NAMES, boundary=True) == class_iou(pairs, NAMES, boundary=True)  # type: ignore[arg-type]


def test_missing_and_superfluous_files_are_named(folders: tuple[Path, Path]) -> None:
    truth, found = folders
    (found / "left" / "7.png").unlink()
    with pytest.raises(InputError, match=r"1 of 70 label maps are missing: left/7"):
        label_map_iou(truth, found, NAMES)
    stems = [f"left/{number}" for number in range(70) if number != 7]
    assert label_map_iou(truth, found, NAMES, stems=stems)["counts"]["images"] == 69
    with pytest.raises(InputError, match=r"1 label maps have no ground truth: left/0"):
        label_map_iou(truth, found, NAMES, stems=stems[1:])
    with pytest.raises(InputError, match="no folder"):
        label_map_iou(truth, found / "other", NAMES)
    (found.parent / "empty").mkdir()
    with pytest.raises(InputError, match="no label maps"):
        label_map_iou(found.parent / "empty", found, NAMES)


def test_a_value_that_is_no_class_is_named_with_its_file(folders: tuple[Path, Path]) -> None:
    truth, found = folders
    write_label_map(found / "left" / "3.png", np.full((9, 11), 9))
    with pytest.raises(InputError, match=r"found/left/3\.png: the prediction has the value\(s\) 9"):
        label_map_iou(truth, found, NAMES)
    write_label_map(found / "left" / "3.png", np.zeros((9, 12)).astype(int))
    with pytest.raises(InputError, match=r"left/3\.png: expected two .* one shape"):
        label_map_iou(truth, found, NAMES)
