"""Charts of matplotlib: what is drawn, and that no global state is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tlvision.report.colours import PALETTE
from tlvision.report.small_multiples import Panel, severity_curves
from tlvision.types import RunError


def panels(count: int) -> list[Panel]:
    return [Panel(f"n{number}", ((0, 0.5), (1, 0.4 - 0.02 * number), (2, None))) for number in range(count)]


def blue(path: Path) -> int:
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    return int((np.abs(pixels - PALETTE[4]).max(axis=2) < 12).sum())


@pytest.mark.slow
def test_every_panel_has_its_line(tmp_path: Path) -> None:
    counts = []
    for number in (1, 4, 5, 12):
        severity_curves(tmp_path / "c.png", panels(number), title="a $title$ of $x", y_label="AP_50")
        counts.append(blue(tmp_path / "c.png") / number)
    assert counts[0] > 200
    assert all(count > 100 for count in counts)


def test_no_panel_and_no_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no panel"):
        severity_curves(tmp_path / "c.png", [], title="", y_label="")
    with pytest.raises(RunError, match="cannot be written"):
        severity_curves(tmp_path / "absent" / "c.png", panels(1), title="", y_label="")


def test_pyplot_is_not_imported(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom tlvision.report.small_multiples import Panel, severity_curves\n"
        "assert 'matplotlib' not in sys.modules\n"
        f"severity_curves(Path({str(tmp_path / 'c.png')!r}), [Panel('a', ((0, 1), (1, 2)))], title='t', y_label='y')\n"
        "assert 'matplotlib' in sys.modules and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "c.png").is_file()
