"""Plugins and hooks of other packages that are broken: listed with their error, in the way of nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import pytest
import yaml

from tlvision.cli.main import main
from tlvision.hooks import registry as hooks
from tlvision.plugin import get_plugin
from tlvision.plugin import registry as plugins
from tlvision.types import InputError

Install = Callable[[str, str, str], None]
HOOK = "from __future__ import annotations\nfrom tlvision.hooks import ObserverHook\n"

# name, source of its module, part of the error that a run which uses it gets
BROKEN_HOOKS: list[tuple[str, str, str]] = [
    ("syntax", "def (:", "cannot be imported (SyntaxError"),
    ("absent_import", "import no_such_package_of_mine", "cannot be imported (ModuleNotFoundError: No module named"),
    ("no_attribute", "Other = 3", "cannot be imported (AttributeError"),
    ("raises", "raise ZeroDivisionError('at import')", "cannot be imported (ZeroDivisionError: at import)"),
    ("asserts", "assert False", "cannot be imported (AssertionError"),
    ("leaves", "import sys\nsys.exit(3)", "cannot be imported (SystemExit: 3)"),
    ("a_number", "Hook = 3", "expected a class derived from ModelHook"),
    ("a_function", "def Hook(): pass", "expected a class derived from ModelHook"),
    ("a_plain_class", "class Hook: pass", "expected a class derived from ModelHook"),
    ("other_name", f"{HOOK}class Hook(ObserverHook): pass", "its class name gives the key 'hook'; both must be"),
    (
        "positional",
        f"{HOOK}class Positional(ObserverHook):\n    def __init__(self, a: int = 1): pass\nHook = Positional",
        "the parameter 'a' of __init__ must be keyword-only and typed",
    ),
    (
        "starred",
        f"{HOOK}class Starred(ObserverHook):\n    def __init__(self, **more: int): pass\nHook = Starred",
        "the parameter 'more' of __init__ must be keyword-only and typed",
    ),
    (
        "unknown_type",
        f"{HOOK}class UnknownType(ObserverHook):\n    def __init__(self, *, a: Nothing = 1): pass\nHook = UnknownType",
        "has a type that cannot be checked (NameError",
    ),
    (
        "odd_type",
        f"{HOOK}class Odd: pass\nclass OddType(ObserverHook):\n    def __init__(self, *, a: Odd = None): pass\n"
        "Hook = OddType",
        "has a type that cannot be checked (Pydantic",
    ),
    (
        "bad_key",
        f"{HOOK}class BadKey(ObserverHook):\n    @classmethod\n    def key(cls): raise OSError('no key')\n"
        "Hook = BadKey",
        "OSError: no key",
    ),
]
BROKEN_PLUGINS: list[tuple[str, str, str]] = [
    ("syntax", "def (:", "cannot be imported (SyntaxError"),
    ("absent_import", "import no_such_package_of_mine", "cannot be imported (ModuleNotFoundError: No module named"),
    ("raises", "raise ZeroDivisionError('at import')", "cannot be imported (ZeroDivisionError: at import)"),
    ("leaves", "import sys\nsys.exit(3)", "cannot be imported (SystemExit: 3)"),
    ("no_attribute", "other = 3", "cannot be imported (AttributeError"),
    ("a_number", "plugin = 3", "the contract asks for the attribute 'name'"),
    ("nothing", "plugin = None", "the contract asks for the attribute 'name'"),
    (
        "bad_property",
        "class P:\n    @property\n    def name(self): raise OSError('no name')\nplugin = P()",
        "OSError: no name",
    ),
]
LISTED_PLUGINS = [
    (
        "bad_architectures",
        "class P:\n    name = 'bad_architectures'\n    tasks = ('detect',)\n    upstream = upstream_versions = ''\n"
        "    licence = 'MIT'\n    capabilities = {}\n    def architectures(self): raise OSError('no list')\n"
        "    def task_of(self, arch): pass\n    def build(self, spec): pass\nplugin = P()",
        "OSError: no list",
    ),
    (
        "bad_tasks",
        "class P:\n    name = 'bad_tasks'\n    tasks = None\n    upstream = upstream_versions = ''\n"
        "    licence = 'MIT'\n    capabilities = {}\n    def architectures(self): return ()\n"
        "    def task_of(self, arch): pass\n    def build(self, spec): pass\nplugin = P()",
        "TypeError",
    ),
]
assert BROKEN_HOOKS
assert BROKEN_PLUGINS


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a module as a hook ("tlvision.hooks") or plugin ("tlvision.plugins") for one test."""
    points: list[EntryPoint] = []
    written: list[str] = []

    def add(group: str, name: str, source: str, module: str = "") -> None:
        module = module or f"hostile_{group.rpartition('.')[2]}_{name}"
        (tmp_path / f"{module}.py").write_text(source)
        attribute = "Hook" if group == hooks.GROUP else "plugin"
        points.append(EntryPoint(name, f"{module}:{attribute}", group))
        written.append(module)
        hooks._third_party.cache_clear()
        plugins._entry_points.cache_clear()

    def all_points(group: str) -> tuple[EntryPoint, ...]:
        return (*entry_points(group=group), *(point for point in points if point.group == group))

    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(hooks, "entry_points", all_points)
    monkeypatch.setattr(plugins, "entry_points", all_points)
    yield add
    monkeypatch.undo()
    hooks._third_party.cache_clear()
    plugins._entry_points.cache_clear()
    for module in written:
        sys.modules.pop(module, None)


def config_file(tiny_config: dict[str, Any], tmp_path: Path) -> str:
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(tiny_config))
    return str(path)


@pytest.mark.parametrize(("name", "source", "expected"), BROKEN_HOOKS, ids=[row[0] for row in BROKEN_HOOKS])
def test_a_broken_hook_is_listed_with_its_error_and_refused_by_name(
    name: str, source: str, expected: str, install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    from tlvision.config.load import load_config

    install(hooks.GROUP, name, source)
    assert main(["hooks"]) == 0
    text = capsys.readouterr().out
    assert f"{name}  (error)" in text
    assert expected in text
    assert "ema  (observer)" in text
    assert "warm_restart  (setup)" in text
    with pytest.raises(InputError) as caught:
        load_config({"hooks": [name]})
    assert f"hooks[0]: hook '{name}'" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(("name", "source", "expected"), BROKEN_PLUGINS, ids=[row[0] for row in BROKEN_PLUGINS])
def test_a_broken_plugin_is_listed_with_its_error_and_refused_by_name(
    name: str, source: str, expected: str, install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install(plugins.GROUP, name, source)
    assert main(["plugins"]) == 0
    text = capsys.readouterr().out
    assert f"{name}\n  error          plugin '{name}'" in text
    assert expected in text
    assert "tiny_detector" in text
    with pytest.raises(InputError, match=f"plugin '{name}'") as caught:
        get_plugin(name)
    assert expected in str(caught.value)
    assert main(["plugins", "toy"]) == 0
    assert "toy" in [plugin.name for plugin in plugins.usable_plugins()]
    assert name not in [plugin.name for plugin in plugins.usable_plugins()]


@pytest.mark.parametrize(("name", "source", "expected"), LISTED_PLUGINS, ids=[row[0] for row in LISTED_PLUGINS])
def test_a_plugin_that_fails_when_it_is_described_is_listed(
    name: str, source: str, expected: str, install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    install(plugins.GROUP, name, source)
    assert main(["plugins"]) == 0
    text = capsys.readouterr().out
    assert f"{name}\n  error          {expected}" in text
    assert "tiny_detector" in text


def test_a_run_that_uses_no_broken_package_is_not_disturbed(
    tiny_config: dict[str, Any], tmp_path: Path, install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, source, _ in BROKEN_HOOKS:
        install(hooks.GROUP, name, source)
    for name, source, _ in BROKEN_PLUGINS:
        install(plugins.GROUP, name, source)
    path = config_file(tiny_config, tmp_path)
    assert main(["train", path, "--set", "train.epochs=1"]) == 0
    capsys.readouterr()
    assert main(["train", path, "--set", "model.plugin=raises"]) == 2
    assert "plugin 'raises': its entry point" in capsys.readouterr().err
    assert main(["train", path, "--set", "hooks=[mean_teecher]"]) == 2
    assert "Did you mean 'mean_teacher'?" in capsys.readouterr().err
    assert main(["new-plugin", "raises", "--in", str(tmp_path)]) == 2


def test_a_hook_that_cannot_be_built_is_an_error_with_its_cause(
    tiny_config: dict[str, Any], tmp_path: Path, install: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    source = f"{HOOK}class Unbuilt(ObserverHook):\n    def __init__(self, *, a: int = 1): 1 / 0\nHook = Unbuilt"
    install(hooks.GROUP, "unbuilt", source)
    path = config_file(tiny_config, tmp_path)
    assert main(["train", path, "--set", "hooks=[unbuilt]"]) == 2
    assert "hook 'unbuilt' (hostile_hooks_unbuilt): it cannot be built (ZeroDivisionError" in capsys.readouterr().err


def test_a_name_that_two_packages_claim_is_refused(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    good = f"{HOOK}class Twice(ObserverHook): pass\nHook = Twice"
    install(hooks.GROUP, "twice", good, "hostile_one")
    install(hooks.GROUP, "twice", good, "hostile_two")
    install(plugins.GROUP, "toy", "plugin = 3", "hostile_three")
    for name, get in (("twice", hooks.hook_class), ("toy", get_plugin)):
        with pytest.raises(InputError, match=f"'{name}': several packages provide it .* uninstall all but one"):
            get(name)
    assert main(["hooks"]) == 0
    assert "twice  (error)" in capsys.readouterr().out
    assert main(["plugins"]) == 0
    assert "toy\n  error          plugin 'toy': several packages" in capsys.readouterr().out


def test_the_name_of_a_built_in_hook_stays_its_own(install: Any, capsys: pytest.CaptureFixture[str]) -> None:
    install(hooks.GROUP, "ema", f"{HOOK}class Ema(ObserverHook): pass\nHook = Ema")
    assert hooks.hook_class("ema").__module__ == "tlvision.hooks.observers.ema"
    assert main(["hooks"]) == 0
    assert "note: hook 'ema' (hostile_hooks_ema:Hook): the name belongs to a built-in hook" in capsys.readouterr().out
