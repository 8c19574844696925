"""Exports: what the runtime reads from the graphs of a model is what the model predicts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from tlvision.conformance.check import check
from tlvision.types import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from tlvision.conformance.case import BatchName, Case
    from tlvision.plugin import ExportGraphs
    from tlvision.runtime.model import RuntimeModel

_LEAST = 0.9
"""Share of the objects that must be the same: those of an untrained model have nearly equal scores, and change places
at the smallest rounding."""


_SOUND = ("predictions_valid", "predictions_stand_alone", "overfits_one_image")
"""What tells of a fault of `predict`, which is not one of the export."""


@check(labels="boxes", needs="Exportable", requires=_SOUND)
def export_reads_as_predicted(case: Case) -> None:
    """The graphs of export_graphs(), run and read as `tlvision.runtime` does, give the objects that predict() gives.

    An architecture without an export says why, in an InputError.
    """
    _compare(case, lambda adapter, images: adapter.predict(images))


@check(labels="label_map", needs="Exportable", requires=("evaluation_deterministic", "scores_for_every_pixel"))
def export_reads_as_scored(case: Case) -> None:
    """The graph of export_graphs(), run and read as `tlvision.runtime` does, gives the scores of dense_logits().

    An architecture without an export says why, in an InputError.
    """
    from tlvision.inference.dense import dense_scores

    _compare(case, dense_scores)


def _compare(case: Case, wanted_of: Callable[[Any, Tensor], Any]) -> None:
    """Compare what is read from the graphs with what the model gives; `wanted_of` asks the model."""
    from tlvision.export.compare import Tally
    from tlvision.plugin import Exportable

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
    model = _runtime(case, adapter, graphs)
    batches: tuple[BatchName, ...] = ("square", "wide")
    for name in batches:
        inputs, _ = case.batch(adapter, name)
        with torch.inference_mode():
            wanted = wanted_of(adapter, inputs.clone())
        tally = Tally(0.0)
        for each, found in zip(wanted, model.run(inputs.numpy()), strict=True):
            tally.add(each, found)
        # An untrained model may find nothing; then the runtime must find nothing either, which is counted.
        assert tally.share is None or tally.share >= _LEAST, (
            f"export_graphs: {tally.share:.0%} of {tally.objects} objects or pixels of the {name} images are read from "
            "the graphs as the model gives them"
        )
    state = adapter.module.state_dict()
    changed = [name for name, tensor in before.items() if not torch.equal(tensor, state[name])]
    assert not changed, f"export_graphs has changed the model: {changed[0]}"


def _runtime(case: Case, adapter: Any, graphs: ExportGraphs) -> RuntimeModel:
    """Return the runtime's model, its graphs still in torch."""
    from tlvision.export.torch_session import torch_sessions
    from tlvision.runtime.bundle import Bundle
    from tlvision.runtime.model import RuntimeModel

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
    return RuntimeModel(Path(), bundle, torch_sessions(graphs))
