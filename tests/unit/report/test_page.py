"""Pages from templates: sections, tables and escaping, for whoever adds a page."""

from __future__ import annotations

import re
from pathlib import Path

from tlvision.report.page import DataTable, Page, Section, render, section, write_page


def test_a_page_needs_a_title_and_sections_only(tmp_path: Path) -> None:
    table = DataTable(["run", "AP"], [["<a>", 0.51234], ["b", None], ["c", 12_345]], bars=["AP"])
    sections = [section("Results & more", [{"table": table}], "A note."), None, section("Empty", [{"title": "x"}])]
    path = write_page(tmp_path / "compare.html", Page("Compare", "<b> is better.", sections=sections))
    page = path.read_text()
    assert re.findall(r"<h2>(.*?)</h2>", page) == ["Results &amp; more"]
    assert '<section id="results-more">' in page
    assert "&lt;b&gt; is better." in page
    assert "&lt;a&gt;" in page
    assert all(text in page for text in ("0.5123", "12,345", 'data-value="0.51234"', 'data-value=""'))
    assert "--share: 1.000" in page


def test_a_block_without_content_is_left_out() -> None:
    assert section("x", []) is None
    assert section("x", [{"title": "a", "table": None, "charts": []}]) is None
    made = section("x", [{"title": "a"}, {"text": "b"}])
    assert made == Section("x", "blocks", [{"text": "b"}])


def test_a_script_in_any_text_is_escaped() -> None:
    bad = "<script>alert(1)</script>\"'"
    table = DataTable([bad, bad], [[bad, bad]], text=[bad])
    blocks = [
        {"title": bad, "text": bad, "table": table, "pairs": [(bad, bad)], "notes": [bad], "pre": bad, "details": bad}
    ]
    shares = {"shares": [(bad, bad, 10.0, "trained")], "charts": [(bad, "<svg></svg>")]}
    page = render(Page(bad, bad, [bad], [(bad, bad)], [(bad, bad)], [section(bad, [*blocks, shares], bad)]))
    assert "<script>alert" not in page
    assert page.count("<script>") == 1
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;") >= 20
