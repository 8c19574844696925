from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tlvision.cli.main import main
from tlvision.conformance.new_plugin import FILES, new_plugin
from tlvision.types import InputError


def test_the_folder_is_whole_and_a_second_one_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-plugin", "my_net", "--in", str(tmp_path)]) == 0
    folder = tmp_path / "tlvision-my_net"
    assert {str(path.relative_to(folder)) for path in folder.rglob("*.*") if path.is_file()} == {
        target.format(name="my_net") for target in FILES.values()
    }
    assert "class MyNetPlugin" in (folder / "tlvision_my_net" / "plugin.py").read_text()
    assert not [path for path in folder.rglob("*.*") if path.is_file() and "$" in path.read_text()]
    assert "tlvision check-plugin my_net" in capsys.readouterr().out
    assert main(["new-plugin", "my_net", "--in", str(tmp_path)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_every_template_is_written() -> None:
    templates = Path(sys.modules[new_plugin.__module__].__file__ or "").with_name("template")
    found = {str(path.relative_to(templates)) for path in templates.rglob("*.tmpl")}
    assert len(found) >= 7
    assert found == set(FILES)


@pytest.mark.parametrize("name", ["", "My", "1net", "my-net", "class", "a b", "../x"])
def test_a_name_that_python_cannot_import_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="expected a name of lower-case letters"):
        new_plugin(name, tmp_path)
    assert not list(tmp_path.iterdir())


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is a plugin 'toy' already"):
        new_plugin("toy", tmp_path)


@pytest.mark.slow
def test_installed_with_pip_it_passes_the_kit_as_it_stands(tmp_path: Path) -> None:
    folder, site = new_plugin("acme", tmp_path), tmp_path / "site"
    install = [*(sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps")]
    subprocess.run([*install, "--target", str(site), str(folder)], check=True, capture_output=True)
    done = subprocess.run(
        [sys.executable, "-m", "tlvision.cli.main", "check-plugin", "acme"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(site)},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "import_is_light" in done.stdout or "groups_partition" in done.stdout
