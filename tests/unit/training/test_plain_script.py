from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import load_file

import tlvision
from launch import run_script
from tiny import QUIET


def test_the_loop_does_what_the_plain_script_does_to_the_bit(
    tiny_config: dict[str, Any], tmp_path: Path, repository: Path
) -> None:
    tiny_config["hooks"] = [
        QUIET,
        {"freeze": {"roles": ["stem"]}},
        {"layerwise_lr": {"decay": 0.9}},
    ]
    tiny_config["train"] |= {"accumulate": 2, "epochs": 3}
    tiny_config["data"]["batch"]["labelled"] = 3
    run = tlvision.train(tiny_config).run
    path, out = tmp_path / "config.yaml", tmp_path / "plain.safetensors"
    path.write_text(yaml.safe_dump(tiny_config))
    done = run_script(repository / "tools/plain_train.py", str(path), str(out))
    assert done.returncode == 0, done.stderr
    loop, plain = load_file(str(run / "checkpoints" / "last" / "model.safetensors")), load_file(str(out))
    assert loop.keys() == plain.keys()
    assert loop
    assert all(torch.equal(loop[name], plain[name]) for name in loop)
