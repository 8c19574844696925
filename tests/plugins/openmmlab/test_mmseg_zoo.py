"""mmseg's zoo: names, paths and what a wrong name says, without importing mmseg."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tlvision.types import InputError
from tlvision_openmmlab.common import zoo as common
from tlvision_openmmlab.mmseg import zoo


def test_the_zoo_has_every_family_and_no_parts() -> None:
    names = zoo.zoo()
    assert len(names) > 600
    assert {"fcn_r18-d8_4xb2-80k_cityscapes-512x1024", "deeplabv3plus_mobilenet-v2-d16"} <= set(names)
    assert not {path.parent.name for path in names.values()} & {"_base_", "dsdl", "san", "vpd"}


def test_a_name_may_carry_its_folder_and_a_path_is_a_name(tmp_path: Path) -> None:
    name = "segformer_mit-b0_8xb2-160k_ade20k-512x512"
    assert zoo.find_config(f"segformer/{name}").stem == name
    path = tmp_path / "mine.py"
    path.write_text('_base_ = "mmseg::_base_/models/fcn_r50-d8.py"\n', encoding="utf-8")
    assert zoo.find_config(str(path)) == path


def test_a_wrong_name_says_the_nearest() -> None:
    with pytest.raises(InputError, match=r"no segmenter 'fcn_r18-d8_cityscapes'\. Did you mean 'fcn_r"):
        zoo.find_config("fcn_r18-d8_cityscapes")
    with pytest.raises(InputError, match=r"no config 'mine\.py'; give the path of an mmseg config"):
        zoo.find_config("mine.py")


def test_without_mmseg_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "find_spec", lambda name: None)
    zoo.zoo.cache_clear()
    try:
        assert zoo.zoo() == {}
        with pytest.raises(InputError, match=r"needs mmseg, mmengine, mmcv.*pip install 'tlvision\[openmmlab\]'"):
            zoo.find_config("fcn_r18-d8_4xb2-80k_cityscapes-512x1024")
        with pytest.raises(InputError, match="ftfy, regex"):
            zoo.check_mmseg()
    finally:
        zoo.zoo.cache_clear()


def test_listing_the_zoo_imports_neither_torch_nor_mmseg() -> None:
    program = (
        "import sys; from tlvision_openmmlab.mmseg.plugin import plugin; plugin.architectures(); "
        "plugin.task_of('deeplabv3plus_mobilenet-v2-d16'); "
        "print([name for name in ('torch', 'mmseg', 'mmengine') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
