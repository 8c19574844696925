"""Exports: what the runtime reads from the graphs of a model is what the model predicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tlvision.conformance.check import check
from tlvision.types import InputError

if TYPE_CHECKING:
    from tlvision.conformance.case import Case

_LEAST = 0.9
"""Share of the objects that must be the same: those of an untrained model have nearly equal scores, and change places
at the smallest rounding."""


_BASIS = ("evaluation_deterministic", "predictions_valid", "predictions_stand_alone", "scores_for_every_pixel")


@check(needs="Exportable", requires=_BASIS)
def export_reads_as_predicted(case: Case) -> None:
    """The graphs of export_graphs(), run and read as `tlvision.runtime` does, give what the model predicts.

    An architecture without an export says why, in an InputError.
    """
    from tlvision.export.compare import Tally
    from tlvision.export.torch_session import torch_sessions
    from tlvision.inference.dense import dense_scores
    from tlvision.plugin import Exportable, HasDenseLogits
    from tlvision.runtime.bundle import Bundle
    from tlvision.runtime.model import RuntimeModel

    adapter, _ = case.build()
    assert isinstance(adapter, Exportable)
    adapter.module.eval()
    images, _ = case.batch(adapter, "square")
    before = {name: tensor.clone() for name, tensor in adapter.module.state_dict().items()}
    try:
        with torch.no_grad():
            graphs = adapter.export_graphs(images)
    except InputError:  # with the reason, which `errors_are_for_people` is about
        return
    bundle = Bundle(
        task=case.task.name,
        name=case.arch,
        classes=case.classes,
        input_spec=adapter.input_spec,
        image_size=case.image_size,
        decoder=graphs.decoder,
        graphs=dict.fromkeys(graphs.graphs, ""),
        graph_format="torch",
    )
    model = RuntimeModel(Path(), bundle, torch_sessions(graphs))
    for name in ("square", "wide"):
        inputs, _ = case.batch(adapter, name)
        with torch.inference_mode():
            segmenter: Any = adapter if isinstance(adapter, HasDenseLogits) else None
            wanted: Any = adapter.predict(inputs) if segmenter is None else dense_scores(segmenter, inputs)
        tally = Tally(0.0)
        for each, found in zip(wanted, model.run(inputs.numpy()), strict=True):
            tally.add(each, found)
        assert tally.share >= _LEAST, (
            f"export_graphs: {tally.share:.0%} of {tally.objects} objects or pixels of the {name} images are read from "
            "the graphs as the model predicts them"
        )
    state = adapter.module.state_dict()
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, state[name])]
    assert not changed, f"export_graphs has changed the model: {changed[0]}"
