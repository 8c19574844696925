"""Tables of docs/*.md and README.md, written from docs/benchmarks/*.json.

A page has a marker for each table, and what is between it and `<!-- end -->` is generated:

    <!-- table: NAME -->          date, device, command and table of docs/benchmarks/NAME.json
    <!-- table: NAME rows -->     the table alone
    <!-- end -->

A json has `date`, `device`, `command` (a list of lines; may be "not recorded"), `columns`, `formats` (a Python format
for each column), `rows`, and `notes`, which are not shown. A row is a list of cells, or `{"cells", "formats", "bold"}`
if it has formats of its own or bold cells (by index). A cell is:

    null, text or number          as its format writes it
    [value, other]                "value (other)"
    [mean, min, max]              "mean (min to max)"
    {"table", "row", "column"}    the cell of another table: first cell of its row, head of its column
    {"run": {...}, "key"}         a number of the one run of recipes.json with these values; also "probe", "zero_shot"
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

UNKNOWN = "not recorded"
FOLDER = Path("docs/benchmarks")
PAGES = (
    "README.md",
    "docs/augmentation.md",
    "docs/benchmarks.md",
    "docs/benchmarks-adaptation.md",
    "docs/choosing-a-method.md",
    "docs/compressing.md",
    "docs/domain-adaptation.md",
    "docs/experiments.md",
    "docs/exporting.md",
    "docs/serving.md",
)
_MARKED = re.compile(r"(<!-- table: (\w+)( rows)? -->\n).*?(<!-- end -->)", re.DOTALL)


def update(root: Path) -> dict[Path, str]:
    """Return the text that each page should have."""
    return {root / page: _page(root, (root / page).read_text(encoding="utf-8")) for page in PAGES}


def names(text: str) -> list[str]:
    """Return the names of the tables of a page."""
    return [match[2] for match in _MARKED.finditer(text)]


def _page(root: Path, text: str) -> str:
    return _MARKED.sub(lambda match: f"{match[1]}\n{block(root, match[2], rows_only=bool(match[3]))}\n{match[4]}", text)


def block(root: Path, name: str, *, rows_only: bool = False) -> str:
    """Return what is between the markers of one table."""
    content = read(root, name)
    table = _table(root, content)
    if rows_only:
        return table
    about = f"{content['date']}; {content['device']}"
    if content["command"] == [UNKNOWN]:
        return f"{about}; command {UNKNOWN}.\n\n{table}"
    command = "\n".join(content["command"])
    return f"{about}.\n\n```bash\n{command}\n```\n\n{table}"


def read(root: Path, name: str) -> dict[str, Any]:
    """Return the json of one table."""
    return dict(json.loads((root / FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def _table(root: Path, content: dict[str, Any]) -> str:
    columns = content["columns"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for row in content["rows"]:
        cells, formats, bold = _row(row, content.get("formats", [""] * len(columns)))
        if not len(cells) == len(formats) == len(columns):
            raise ValueError(f"a row has {len(cells)} cells and {len(formats)} formats: {cells}")
        texts = [_text(_resolve(root, cell), shown) for cell, shown in zip(cells, formats, strict=True)]
        lines.append(f"| {' | '.join(f'**{text}**' if i in bold else text for i, text in enumerate(texts))} |")
    return "\n".join(lines) + "\n"


def _row(row: Any, formats: list[str]) -> tuple[list[Any], list[str], list[int]]:
    """Return cells, formats and indices of bold cells."""
    if isinstance(row, list):
        return row, formats, []
    return row["cells"], row.get("formats", formats), row.get("bold", [])


def _resolve(root: Path, cell: Any) -> Any:
    if not isinstance(cell, dict):
        return cell
    if "table" in cell:
        other = read(root, cell["table"])
        rows = [_row(row, [])[0] for row in other["rows"]]
        found = [row for row in rows if row[0] == cell["row"]]
        place = other["columns"].index(cell["column"])
    else:
        kind = next(iter(cell))
        found = [[run[cell["key"]]] for run in read(root, "recipes")[f"{kind}s"] if cell[kind].items() <= run.items()]
        place = 0
    if len(found) != 1:
        raise ValueError(f"{len(found)} rows fit {cell}")
    return found[0][place]


def _text(value: Any, shown: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        first, *rest = (_text(part, shown) for part in value)
        return f"{first} ({' to '.join(rest)})"
    return format(value, shown).replace("%", " %")
