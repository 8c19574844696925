"""Build the documentation as a site: python tools/build_docs.py [--serve]

Collects README.md, CONTRIBUTING.md, CHANGELOG.md, docs/ and the READMEs of the plugins in build/docs-source, with the
folders of the repository, so that links between them hold. Adds the pages that are generated from schema, registries,
docstrings and notebooks, and runs zensical on it. The site is in build/docs. Broken links, missing files, and pages
that are missing in the navigation (zensical.toml) are errors. Needs `pip install "tlvision[docs]"`, and no network.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from docs_pages import catalogues
from docs_pages.api import PAGES, api_page
from docs_pages.notebook import notebook_page

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "build" / "docs-source"
GENERATED: dict[str, Callable[[], str]] = {
    "config": catalogues.config_page,
    "commands": catalogues.commands_page,
    "hooks": catalogues.hooks_page,
    "plugins": catalogues.plugins_page,
    "presets": catalogues.presets_page,
    "tasks": catalogues.tasks_page,
}


def collect(folder: Path) -> None:
    """Write all pages into `folder`, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder / "docs")
    for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
        shutil.copy(ROOT / name, folder / name)
    for path in ROOT.glob("plugins/*/README.md"):
        target = folder / path.relative_to(ROOT)
        target.parent.mkdir(parents=True)
        shutil.copy(path, target)
    pages = {f"reference/{name}.md": page() for name, page in GENERATED.items()}
    pages |= {f"api/{page.name}.md": api_page(page) for page in PAGES}
    pages |= {f"{path.stem}.md": notebook_page(path) for path in ROOT.glob("docs/*.ipynb")}
    for name, text in pages.items():
        path = folder / "docs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")


def check_navigation(folder: Path) -> None:
    """Exit with an error if the navigation lacks a page, or has one that does not exist: zensical checks neither."""
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    listed = list(_pages(config["project"]["nav"]))
    existing = {path.relative_to(folder).as_posix() for path in folder.rglob("*.md")}
    problems = [f"{name} is not in the navigation" for name in sorted(existing - set(listed))]
    problems += [f"{name} does not exist" for name in listed if name not in existing]
    problems += [f"{name} is in the navigation twice" for name in sorted({n for n in listed if listed.count(n) > 1})]
    if problems:
        raise SystemExit("\n".join(f"error: zensical.toml: {problem}." for problem in problems))


def check_files(folder: Path) -> None:
    """Exit with an error if a page shows or links a file that does not exist: zensical checks links to pages only."""
    problems = []
    for page in sorted(folder.rglob("*.md")):
        links = re.findall(r"\]\(([^)\s#]+)", page.read_text(encoding="utf-8"))
        missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
        problems += [f"{page.relative_to(folder)}: {link} does not exist" for link in missing]
    if problems:
        raise SystemExit("\n".join(f"error: {problem}." for problem in problems))


def _pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for inner in entry.values() if isinstance(entry, dict) else entry:
            yield from _pages(inner)


def main() -> int:
    """Build or serve the site."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--serve", action="store_true", help="show the site at localhost:8000 instead")
    options = parser.parse_args()
    collect(SOURCE)
    check_navigation(SOURCE)
    check_files(SOURCE)
    action = ["serve"] if options.serve else ["build", "--clean", "--strict"]
    path = os.pathsep.join([str(ROOT / "tools"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "zensical", *action], cwd=ROOT, env=os.environ | {"PYTHONPATH": path}, check=False
    )
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
