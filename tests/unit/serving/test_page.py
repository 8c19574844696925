"""The page in a real browser: an image that is chosen is shown with what was found in it, and nothing is loaded."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image

import tlvision.runtime
from hand_made_bundles import write_detector, write_segmenter
from live_server import Running, picture

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
pytestmark = [
    pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH (apt-get install chromium)"),
    pytest.mark.slow,
]
Show = Callable[[Running, bytes], "Page"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def show(browser: Browser) -> Iterator[Show]:
    """Return a function that chooses an image on the page; a message, error or foreign request fails the test."""
    problems: list[str] = []
    opened = browser.new_page(viewport={"width": 900, "height": 700})

    def choose(running: Running, data: bytes) -> Page:
        address = str(running.client.base_url)
        opened.on("console", lambda message: problems.append(message.text))
        opened.on("pageerror", lambda error: problems.append(str(error)))
        opened.on(
            "request", lambda asked: None if asked.url.startswith((address, "blob:")) else problems.append(asked.url)
        )
        opened.goto(address)
        opened.locator("#files").set_input_files({"name": "a <b>.png", "mimeType": "image/png", "buffer": data})
        opened.locator("figcaption").wait_for()
        return opened

    yield choose
    opened.close()
    assert problems == []


def pixels_of(page: Page) -> np.ndarray:
    """Return what the canvas shows at its own resolution, (H, W, 3)."""
    address = page.locator("canvas").evaluate("canvas => canvas.toDataURL('image/png')")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))[..., :3]


def test_boxes_are_drawn(show: Show, running: Running) -> None:
    page = show(running, picture(200, size=(320, 160)))
    assert page.locator("figcaption").inner_text().startswith("a <b>.png: 1 objects, 320 x 160 pixels")
    assert page.locator("table").inner_text().split() == ["class", "objects", "red", "1"]
    assert "colours (detect): red, green, blue" in page.locator("#about").inner_text()
    changed = (np.abs(pixels_of(page).astype(int) - (200, 20, 0)) > 20).any(axis=2)
    rows, columns = np.nonzero(changed[41:])  # below the label
    assert (columns.min(), columns.max()) == (39, 200)  # the box is 40, 40, 200, 120
    assert rows.max() + 41 == 120


def test_masks_are_painted(show: Show, start: Callable[..., Running], tmp_path: Path) -> None:
    model = tlvision.runtime.load(write_detector(tmp_path / "bundle", masks=True), threads=1)
    page = show(start(model=model), picture(200, size=(320, 160)))
    changed = (np.abs(pixels_of(page).astype(int) - (200, 20, 0)) > 20).any(axis=2)
    assert changed[42:118, 42:198].all()
    assert not changed[125:].any()


def test_a_label_map_is_painted_with_its_classes(show: Show, start: Callable[..., Running], tmp_path: Path) -> None:
    image = np.zeros((160, 320, 3), np.uint8)
    image[:, :240, 0] = image[:, 240:, 2] = 200
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    model = tlvision.runtime.load(write_segmenter(tmp_path / "bundle"), threads=1)
    page = show(start(model=model), file.getvalue())
    assert page.locator("td").all_inner_texts() == ["red", "75.0 %", "blue", "25.0 %"]
    shown = pixels_of(page)
    assert len(np.unique(shown.reshape(-1, 3), axis=0)) == 2
    assert (shown[:, :240] == shown[0, 0]).all()
    assert (shown[:, 240:] == shown[0, 300]).all()
