"""The pages of the site that are generated, and the check of its navigation. The strict build itself is in .ci/run."""

from __future__ import annotations

import doctest
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tlvision.cli.main import VERBS
from tlvision.config.presets import presets
from tlvision.hooks.registry import BUILT_IN, hook_class, hook_schema
from tlvision.tasks.registry import built_in_tasks


@pytest.fixture
def catalogues(tools: Any) -> Any:
    return tools("docs_pages.catalogues")


def test_docstrings_become_markdown(tools: Any) -> None:
    docstrings = tools("docs_pages.docstrings")
    assert doctest.testmod(docstrings) == doctest.TestResults(failed=0, attempted=1)
    text = "Scale boxes.\n\nboxes:  (N, 4).\nx, y: above 0,\n      1 keeps.\n\nSource: me.\n\n>>> 1 + 1\n2"
    assert docstrings.to_markdown(text) == (
        "Scale boxes.\n\n- `boxes`: (N, 4).\n- `x`, `y`: above 0, 1 keeps.\n\nSource: me.\n\n"
        "```pycon\n>>> 1 + 1\n2\n```"
    )


def test_every_page_is_in_the_navigation_and_generated_ones_have_content(tools: Any, tmp_path: Path) -> None:
    build_docs = tools("build_docs")
    folder = tmp_path / "source"
    build_docs.collect(folder)
    build_docs.check_navigation(folder)
    pages = [*(folder / "docs" / "reference").glob("*.md"), *(folder / "docs" / "api").glob("*.md")]
    assert len(pages) == len(build_docs.GENERATED) + len(build_docs.PAGES) >= 12
    assert all(path.read_text(encoding="utf-8").startswith("# ") for path in pages)


@pytest.mark.parametrize("problem", ["is not in the navigation", "does not exist"])
def test_a_page_that_is_missing_on_either_side_is_an_error(tools: Any, tmp_path: Path, problem: str) -> None:
    build_docs = tools("build_docs")
    build_docs.collect(tmp_path / "source")
    page = tmp_path / "source" / "docs" / ("new.md" if "not in" in problem else "glossary.md")
    page.write_text("# New") if "not in" in problem else page.unlink()
    with pytest.raises(SystemExit, match=f"docs/{page.name} {problem}"):
        build_docs.check_navigation(tmp_path / "source")


def test_a_picture_that_does_not_exist_is_an_error(tools: Any, tmp_path: Path) -> None:
    build_docs = tools("build_docs")
    build_docs.collect(tmp_path / "source")
    build_docs.check_files(tmp_path / "source")
    (tmp_path / "source/docs/images/quickstart.jpg").unlink()
    with pytest.raises(SystemExit, match=r"README\.md: docs/images/quickstart\.jpg does not exist"):
        build_docs.check_files(tmp_path / "source")


def test_catalogues_have_every_hook_parameter_preset_task_and_command(catalogues: Any) -> None:
    hooks = catalogues.hooks_page()
    assert len(BUILT_IN) > 20
    for name in BUILT_IN:
        section = hooks.partition(f"\n### {name}\n")[2].partition("\n### ")[0]
        assert section, name
        for parameter in hook_schema(hook_class(name)).model_fields:
            assert f"| `{parameter}` |" in section, f"{name}: {parameter}"
    for page, names in (
        (catalogues.presets_page(), [f"\n### {name}\n" for name in presets()]),
        (catalogues.tasks_page(), [f"| `{task.name}` |" for task in built_in_tasks()]),
        (catalogues.commands_page(), [f"\n## tlvision {verb}\n\n```text\nusage: tlvision {verb} " for verb in VERBS]),
    ):
        assert len(names) >= 3
        assert not [name for name in names if name not in page]


def test_the_catalogue_of_plugins_has_those_of_this_repository(catalogues: Any, repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(catalogues.PLUGINS) == set(project["entry-points"]["tlvision.plugins"])
    text = catalogues.plugins_page()
    for name, folder in catalogues.PLUGINS.items():
        assert f"\n## {name}\n" in text
        assert folder is None or (repository / "plugins" / folder / "README.md").is_file()


def test_every_public_module_of_the_api_pages_exists(tools: Any) -> None:
    names = [name for page in tools("docs_pages.api").PAGES for name in page.objects]
    assert len(names) > 10
    for name in names:
        module, _, attribute = name.rpartition(".")
        try:
            import_module(name)
        except ModuleNotFoundError:
            assert hasattr(import_module(module), attribute), name
