"""Show a notebook as a page of the site: its text and its code, without outputs, which no notebook here stores."""

from __future__ import annotations

import json
from pathlib import Path


def notebook_page(path: Path) -> str:
    """Return the cells of a notebook as Markdown, with a link to the file below the title."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    texts = ["".join(cell["source"]) for cell in cells]
    parts = [
        text if cell["cell_type"] == "markdown" else f"```python\n{text}\n```"
        for cell, text in zip(cells, texts, strict=True)
    ]
    title, _, rest = parts[0].partition("\n")
    link = f"The same as a notebook: [{path.name}]({path.name})."
    return "\n\n".join([title, link, rest.strip(), *parts[1:]]) + "\n"
