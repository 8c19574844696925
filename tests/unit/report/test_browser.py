"""The report in a real browser: no error, every picture loads, sorting, filters and keyboard work, nothing overflows.

Playwright drives the chromium of the system (Debian: apt-get install chromium); it downloads none.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from report_run import NAMES, write_run
from tlvision.report import write_report

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra dev)")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium on PATH (apt-get install chromium)")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_report(write_run(tmp_path_factory.mktemp("report") / "run"))


@pytest.fixture
def page(browser: Browser, report: Path) -> Iterator[Page]:
    """Return the report in a window; any message, error or request of the page fails the test."""
    problems: list[str] = []
    opened = browser.new_page(viewport={"width": 1280, "height": 900})
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(dialog.message))
    opened.on("request", lambda request: problems.append(request.url) if "data:" not in request.url else None)
    opened.goto(report.as_uri())
    problems.remove(report.as_uri())
    yield opened
    opened.close()
    assert problems == []


def names_in(page: Page, section: str) -> list[str]:
    return [text.strip() for text in page.locator(f"#{section} tbody").first.locator("th").all_inner_texts()]


def test_every_picture_and_chart_is_visible(page: Page) -> None:
    page.locator("#examples summary").click()
    images = page.locator("img")
    assert images.count() == 12 + 2
    for number in range(images.count()):
        images.nth(number).scroll_into_view_if_needed()
        page.wait_for_function("image => image.complete", arg=images.nth(number).element_handle())
        assert images.nth(number).evaluate("image => image.naturalWidth") > 0
    charts = page.locator("figure > svg")
    assert charts.count() == 10
    for number in range(charts.count()):
        box = charts.nth(number).bounding_box()
        assert box is not None
        assert min(box["width"], box["height"]) > 100
    assert page.locator("nav a").count() == page.locator("main > section").count() == 11


def test_a_table_sorts_by_each_column(page: Page) -> None:
    page.locator("#classes th").first.wait_for()
    assert names_in(page, "classes") == list(NAMES)
    head = page.locator("#classes thead th").nth(1)
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending"
    assert names_in(page, "classes") == [NAMES[0], NAMES[2], NAMES[1]], "what is not measured comes last"
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert names_in(page, "classes") == [NAMES[2], NAMES[0], NAMES[1]]
    page.locator("#classes thead th").first.get_by_role("button").click()
    assert head.get_attribute("aria-sort") is None
    assert names_in(page, "classes") == [NAMES[1], NAMES[2], NAMES[0]]


def test_the_worst_images_are_filtered_by_class_and_error(page: Page) -> None:
    cards, output = page.locator(".card:visible"), page.locator("output")
    assert cards.count() == 6
    page.get_by_label("Class").select_option(NAMES[1])
    assert [card.split(" ")[1] for card in cards.locator("b").all_inner_texts()] == ["cells/1", "cells/4"]
    assert output.inner_text() == "2 of 6 images"
    page.get_by_label("Error").select_option("background")
    assert output.inner_text() == "1 of 6 images"
    page.get_by_label("Class").select_option("all")
    assert cards.count() == 3


def test_everything_is_reached_by_keyboard_with_visible_focus(page: Page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.get_by_label("Class").focus()
    page.keyboard.press("ArrowDown")
    assert page.locator("output").inner_text() == "2 of 6 images"
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Enlarge"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    assert page.locator(".card.wide").count() == 1
    page.locator("#classes thead button").nth(1).focus()
    page.keyboard.press("Space")
    assert page.locator('#classes th[aria-sort="descending"]').count() == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_the_page_without_scrolling_sideways(page: Page, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.set_viewport_size({"width": 390, "height": 800})
    for summary in page.locator("summary").all():
        summary.click()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    lightness = "color => color.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + Number(b), 0)"
    colours = {
        name: page.evaluate(f"({lightness})(getComputedStyle(document.querySelector('{name}')).color)")
        for name in ("h2", "td", "figure > svg")
    }
    back = page.evaluate(f"({lightness})(getComputedStyle(document.body).backgroundColor)")
    assert (back > 600) == (scheme == "light")
    assert all(abs(colour - back) > 300 for colour in colours.values()), "text and charts stand out from the page"


def test_without_a_script_the_page_is_whole(browser: Browser, report: Path) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(report.as_uri())
    assert page.locator(".card:visible").count() == 6
    assert page.locator("form.filters").is_hidden()
    assert names_in(page, "classes") == list(NAMES)
    context.close()
