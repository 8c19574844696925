"""Sampling and augmentation in a run: notes, and the grid of `tlvision show --augment`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tlvision.cli.main import main
from tlvision.config.load import load_config
from tlvision.engine.augment_notes import augment_notes, mirrored_classes
from tlvision.engine.augment_pictures import show_augmented
from tlvision.engine.build import build_run, training_images
from tlvision.types import InputError


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (("left hand", "right hand", "head"), [("left hand", "right hand")]),
        (("Arm-L", "Arm-R"), [("Arm-L", "Arm-R")]),
        (("turn_left", "turn_right_ahead"), []),
        (("left", "bright"), []),
        (("a left", "b right"), []),
    ],
)
def test_classes_that_a_flip_turns_into_each_other(names: tuple[str, ...], pairs: list[Any]) -> None:
    assert mirrored_classes(names) == pairs


def test_a_flip_of_such_classes_is_noted(tiny_config: dict[str, Any]) -> None:
    names = ("left hand", "right hand")
    config = load_config(tiny_config, [])
    assert "a horizontal flip turns 'left hand' and 'right hand' into each other" in augment_notes(config, names)[0]
    assert augment_notes(load_config(tiny_config, ["data.augment.flip=none"]), names) == []


def test_a_run_samples_by_class(tiny_config: dict[str, Any]) -> None:
    parts = build_run(load_config(tiny_config, ["data.sampling.kind=class_balanced"]))
    assert any("data.sampling: class_balanced: in an epoch an image comes" in note for note in parts.notes)
    assert training_images(parts, None).weights is not None
    assert training_images(build_run(load_config(tiny_config, [])), None).weights is None


def test_options_of_show_that_do_nothing_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "quickstart", "--output", "x"]) == 2
    assert "--output has no effect without --augment" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["show", "quickstart", "--origin", "--augment", "2"])
    assert "not allowed with argument" in capsys.readouterr().err


def test_training_inputs_are_drawn(tiny_config: dict[str, Any], tmp_path: Path) -> None:
    show_augmented(tiny_config, 5, tmp_path / "out")
    found = np.asarray(Image.open(tmp_path / "out" / "augmented.png"))
    assert found.shape[1] == 1600
    assert found.std() > 20
    with pytest.raises(InputError, match="needs a number of images from 1 to 400, got 0"):
        show_augmented(tiny_config, 0, tmp_path / "none")
