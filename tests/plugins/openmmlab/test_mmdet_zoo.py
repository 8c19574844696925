"""The zoo, read as text: names, tasks and what a wrong name says, without importing mmdet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tlvision.types import InputError
from tlvision_openmmlab.common import zoo as common
from tlvision_openmmlab.mmdet import zoo


def test_the_zoo_has_every_family_and_no_parts_or_trackers() -> None:
    names = zoo.zoo()
    assert len(names) > 600
    assert {"faster-rcnn_r50_fpn_1x_coco", "dino-4scale_r50_8xb2-12e_coco", "faster-rcnn_mobilenet-v2_fpn"} <= set(
        names
    )
    folders = {path.parent.name for path in names.values()}
    assert not folders & {"_base_", "rpn", "bytetrack", "soft_teacher"}


@pytest.mark.parametrize(
    "name", ["mask-rcnn_r50_fpn_1x_coco", "mask_rcnn/mask-rcnn_r50_fpn_1x_coco", "mmdet/mask-rcnn_r50_fpn_1x_coco"]
)
def test_a_name_may_carry_its_folder(name: str) -> None:
    found = zoo.find_config(name)
    assert found.path.stem == "mask-rcnn_r50_fpn_1x_coco"
    assert found.task == "instance"


def test_a_path_is_a_name_and_bases_are_followed(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text('_base_ = "mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py"\n', encoding="utf-8")
    assert zoo.find_config(str(path)).task == "instance"
    second = tmp_path / "boxes.py"
    second.write_text('_base_ = ["./absent.py", "mmdet::_base_/models/retinanet_r50_fpn.py"]\n', encoding="utf-8")
    assert zoo.find_config(str(second)).task == "detect"


def test_a_wrong_name_says_the_nearest() -> None:
    with pytest.raises(
        InputError, match=r"no detector 'faster-rcnn_r50_fpn_1x_cocoo'\. Did you mean '.*faster-rcnn_r50_fpn_1x_coco'"
    ):
        zoo.find_config("faster-rcnn_r50_fpn_1x_cocoo")
    with pytest.raises(InputError, match=r"no config 'mine\.py'"):
        zoo.find_config("mine.py")


def test_without_mmdet_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "find_spec", lambda name: None)
    zoo.zoo.cache_clear()
    try:
        assert zoo.zoo() == {}
        with pytest.raises(InputError, match=r"needs mmdet, mmengine, mmcv.*pip install 'tlvision\[openmmlab\]'"):
            zoo.find_config("faster-rcnn_r50_fpn_1x_coco")
    finally:
        zoo.zoo.cache_clear()


def finds_masks(part: Any) -> bool:
    kinds = {"RTMDetInsSepBNHead", "Mask2Former", "SOLO", "SOLOv2", "YOLACT", "CondInst", "BoxInst"}
    if isinstance(part, dict):
        if part.get("mask_head") or part.get("type") in kinds:
            return True
        return any(finds_masks(value) for key, value in part.items() if key not in {"train_cfg", "test_cfg"})
    return isinstance(part, list | tuple) and any(map(finds_masks, part))


@pytest.mark.slow
def test_the_task_read_from_the_text_is_that_of_the_config_as_upstream_reads_it() -> None:
    from tlvision_openmmlab.mmdet.config import read_config

    compared = 0
    for name, path in zoo.zoo().items():
        try:
            config = read_config(path)
        except InputError as error:
            if "pip install mmpretrain" not in str(error):
                raise
            continue
        assert (zoo.task_of(path) == "instance") is finds_masks(config.model), name
        compared += 1
    assert compared > 600
