"""What is measured without labels decides for all processes alike."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from tlvision.data.dataset import EvalImages
from tlvision.data.unlabelled import samples_of
from tlvision.formats.coco import read_images
from tlvision.inference import domain_evaluator as domains
from tlvision.inference.domain_evaluator import DomainEvaluator
from tlvision.training.session import Session
from tlvision.types import InputSpec, RunError


class Rank:
    """As far as the evaluator looks at Fabric; what the first process sends is in `sent`."""

    device = torch.device("cpu")
    world_size = 2

    def __init__(self, rank: int, sent: list[Any]) -> None:
        self.is_global_zero, self._sent = rank == 0, sent

    def broadcast(self, value: Any, src: int) -> Any:
        assert src == 0
        if self.is_global_zero:
            self._sent.append(value)
        return self._sent[-1]


def test_the_first_process_measures_and_all_others_follow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranks whose measures differ by 1e-9 would choose different checkpoints, and wait for each other for ever."""
    sent: list[Any] = []
    measured: list[float] = []

    def measure(*_: Any) -> dict[str, float]:
        measured.append(0.5 + 1e-9 * len(measured))
        return {"stability": measured[-1]}

    monkeypatch.setattr(domains, "measure_unlabelled", measure)
    monkeypatch.setattr(DomainEvaluator, "_some_unlabelled", lambda *_: ([], []))
    found = []
    for rank in (0, 1):
        main: Any = SimpleNamespace(
            fabric=Rank(rank, sent), evaluate=lambda *_: {"bbox/AP": 0.25}, metrics={}, out=tmp_path, batch_size=2
        )
        evaluator = DomainEvaluator(
            main=main, domain="target", source=None, input_spec=InputSpec(), unlabelled=object(), select="x"  # type: ignore[arg-type]
        )  # fmt: skip
        found.append(evaluator.evaluate(object()))  # type: ignore[arg-type]
        assert main.metrics["unlabelled"] == {"stability": 0.5}
    assert found[0] == found[1] == {"target/bbox/AP": 0.25, "unlabelled/stability": 0.5}
    assert len(sent) == len(measured) == 1


@pytest.mark.parametrize("elsewhere", [True, False])
def test_an_epoch_without_labels_ends_all_processes_or_none(elsewhere: bool) -> None:
    """One that ended alone would leave the others waiting for it."""
    context = SimpleNamespace(step=4, images_seen=8, duration=SimpleNamespace(steps_per_epoch=4))
    session: Any = SimpleNamespace(has_targets=False, context=context, _in_any_process=lambda here: here or elsewhere)
    if elsewhere:
        Session.check_targets(session, 0)
        return
    with pytest.raises(RunError, match="nothing was learned"):
        Session.check_targets(session, 0)


class Border:
    """A segmenter that is sure of what shows an image, and not of padding."""

    def __init__(self) -> None:
        self.module = nn.Identity()

    def dense_logits(self, images: Tensor) -> Tensor:
        shows = 50.0 * (images[:, :1] > 0.9)
        return torch.cat([shows, 0 * shows], dim=1)


def test_padding_is_not_measured(tmp_path: Path) -> None:
    Image.fromarray(np.full((40, 64, 3), 255, np.uint8)).save(tmp_path / "a.png")
    images = EvalImages(samples_of(read_images(tmp_path).images), InputSpec(multiple_of=64), 64)
    main: Any = SimpleNamespace(fabric=Rank(0, []), batch_size=2)
    evaluator = DomainEvaluator(
        main=main, domain="target", source=None, input_spec=InputSpec(multiple_of=64), unlabelled=images, select="x"
    )  # fmt: skip
    (batch,), (valid,) = evaluator._some_unlabelled(images)
    assert (batch.shape, valid.shape) == ((1, 3, 64, 64), (1, 64, 64))
    assert int(valid.sum()) == 40 * 64
    adapter: Any = Border()
    assert evaluator._measures(adapter, images, None) == pytest.approx({"stability": 1.0, "certainty": 1.0})
    assert domains.measure_unlabelled(adapter, [batch], None)["certainty"] < 0.7, "as it was with padding"
