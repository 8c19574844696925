"""The module `mmcv._ext`: complete, honest about what it lacks, and out of the way of a compiled one."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest
from mmcv.ops import get_compiler_version, get_compiling_cuda_version
from mmcv.utils import ext_loader

from launch import run_script
from tlvision_openmmlab.mmcv_ops import OPERATORS, install
from tlvision_openmmlab.mmcv_ops.extension import NAME
from tlvision_openmmlab.mmcv_ops.uncovered import UNCOVERED


def asked_for() -> set[str]:
    """Return every operator that a file of mmcv.ops asks for when it is imported."""
    spec = importlib.util.find_spec("mmcv")
    assert spec is not None
    assert spec.origin is not None
    names: set[str] = set()
    for path in (Path(spec.origin).parent / "ops").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "load_ext":
                assert isinstance(node.args[1], ast.List)
                names |= {element.value for element in node.args[1].elts}  # type: ignore[attr-defined]
    return names


def test_every_operator_that_mmcv_asks_for_is_covered_or_known_not_to_be() -> None:
    names = asked_for()
    assert len(names) > 80
    assert names == set(OPERATORS) | set(UNCOVERED)
    assert not set(OPERATORS) & set(UNCOVERED)


def test_what_is_not_covered_says_which_models_need_it_and_what_to_do() -> None:
    extension = sys.modules[NAME]
    assert "nms_rotated" in UNCOVERED
    said = (
        r"'nms_rotated' is not covered .* rotated boxes \(mmrotate\): choose another model, or install a compiled mmcv"
    )
    with pytest.raises(NotImplementedError, match=said):
        extension.nms_rotated(1, two=2)


def test_a_name_that_mmcv_does_not_know_is_an_attribute_error() -> None:
    extension = sys.modules[NAME]
    with pytest.raises(AttributeError, match="no operator 'nsm'"):
        extension.nsm  # noqa: B018
    with pytest.raises(AssertionError, match="nsm miss in module _ext"):
        ext_loader.load_ext("_ext", ["nms", "nsm"])


def test_installing_twice_changes_nothing() -> None:
    before = sys.modules[NAME]
    assert install()
    assert sys.modules[NAME] is before


def test_mmcv_s_report_on_the_environment_names_us() -> None:
    assert "mmcv_ops" in get_compiler_version()
    assert "mmcv_ops" in get_compiling_cuda_version()


def run(code: str, path: Path) -> str:
    """Return what a script at `path` says, which comes first among the places to import from; a warning is an error.

    It runs in a process that has imported torch, and neither mmcv nor our operators.
    """
    script = path / "script.py"
    first = "import sys, warnings; warnings.simplefilter('error')\n"
    first += "assert not {'mmcv', 'tlvision_openmmlab'} & set(sys.modules)\n"
    script.write_text(first + code, encoding="utf-8")
    done = run_script(script)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_it_says_nothing_and_mends_an_import_of_the_operators_that_failed(tmp_path: Path) -> None:
    code = (
        "try: import mmcv.ops\n"
        "except ModuleNotFoundError as error: assert error.name == 'mmcv._ext'\n"
        "else: raise SystemExit('mmcv has its extension')\n"
        "import tlvision_openmmlab.mmcv_ops\n"
        "import mmcv.ops, mmcv._ext, torch\n"
        "assert mmcv._ext is sys.modules['mmcv._ext']\n"
        "assert mmcv.ops.nms(torch.zeros(1, 4), torch.ones(1), 0.5)[1].tolist() == [0]\n"
    )
    assert not run(code, tmp_path)


def test_a_compiled_mmcv_is_left_alone_and_used(tmp_path: Path) -> None:
    (tmp_path / "mmcv").mkdir()
    (tmp_path / "mmcv" / "__init__.py").touch()
    (tmp_path / "mmcv" / "_ext.py").write_text("compiled = True\n", encoding="utf-8")
    code = (
        "from tlvision_openmmlab.mmcv_ops import install\n"
        "assert not install()\n"
        "import mmcv._ext\n"
        "assert mmcv._ext.compiled\n"
        "assert not install()\n"
    )
    assert not run(code, tmp_path)


def test_without_any_mmcv_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import importlib.util as u; real = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'mmcv' else real(name, *more)\n"
        "try: import tlvision_openmmlab.mmcv_ops\n"
        "except ImportError as error: print(error)\n"
    )
    assert "neither that nor mmcv is installed: pip install 'mmcv-lite" in run(code, tmp_path)
