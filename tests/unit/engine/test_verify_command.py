from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tlvision.engine import verify as module
from tlvision.engine.verify import PhaseProof, verify
from tlvision.hooks import Context, ObserverHook
from tlvision.types import RunError


def test_every_phase_is_proved_and_nothing_is_written(
    tiny_config: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_config["train"]["epochs"] = 4
    tiny_config["hooks"] += [
        {"freeze": {"through": "stem"}},
        {"gradual_unfreeze": {"at": [0.25, 0.75], "down_to": "backbone.stage4"}},
    ]
    proved = verify(tiny_config)
    assert [(phase.first, phase.steps) for phase in proved] == [(0, 3), (3, 3), (9, 3)]
    frozen = [phase.frozen for phase in proved]
    assert frozen == sorted(frozen, reverse=True)
    assert frozen[-1] > 0
    assert "bit-equal" in capsys.readouterr().out
    assert not Path(tiny_config["run"]["out"]).exists()


def test_nothing_frozen_is_said(tiny_config: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    assert verify(tiny_config) == [PhaseProof(0, 3, 0)]
    assert "all is trained" in capsys.readouterr().out


class Meddle(ObserverHook):
    def after_step(self, context: Context) -> None:
        context.adapter.module.get_parameter("backbone.stem.0.weight").data += 1


def test_a_breach_is_an_error_that_names_the_layer(
    tiny_config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    build = module.build_run

    def meddled(config: Any) -> Any:
        parts = build(config)
        parts.hooks.append(Meddle())
        return parts

    monkeypatch.setattr(module, "build_run", meddled)
    tiny_config["hooks"].append({"freeze": {"through": "stem"}})
    with pytest.raises(RunError, match=r"'backbone.stem.0.weight' of layer group 'stem' is frozen but has moved"):
        verify(tiny_config)
