"""An mmseg segmenter behind the contract of `tlvision.plugin.Adapter`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tlvision.plugin import ScoreKind, capture, label_maps
from tlvision.plugin.export import ExportGraphs
from tlvision.types import IGNORE_INDEX, InputError, InputSpec, Prediction, Target
from tlvision_openmmlab.common.engine import PixelData, without_old_style
from tlvision_openmmlab.common.losses import named_losses
from tlvision_openmmlab.mmseg.export import export_graphs
from tlvision_openmmlab.mmseg.groups import add_taps, find_groups
from tlvision_openmmlab.mmseg.upstream import GenerateEdge, SegDataSample

# Decode heads that give several score maps in train mode, and which of them is the one of eval mode.
_MAIN_SCORES = {"PIDHead": 1, "DDRHead": 0, "IterativeDecodeHead": -1}

# Decode heads that give sums over queries of P(class) * P(mask), as upstream's `predict` of each has it.
_MASK_CLASSIFIERS = frozenset({"MaskFormerHead", "Mask2FormerHead", "SideAdapterCLIPHead"})

# Decode heads that draw random numbers whenever they run, some for each image of the batch.
_RANDOM_HEADS = frozenset({"LightHamHead"})


class MmsegAdapter:
    """One mmseg segmenter, ready to be fine-tuned. Has the capability `HasDenseLogits`.

    model:      the segmenter that mmseg built, on the CPU in train mode.
    input_spec: image format of its config.
    edge_width: width in pixels of the edges that its decode head also learns; None if it does not.
    """

    module: nn.Module

    def __init__(self, model: Any, input_spec: InputSpec, *, edge_width: int | None = None) -> None:
        self.module = self._model = model
        self.input_spec, self._edge_width = input_spec, edge_width
        self.taps = add_taps(model, self._scores)
        self.groups = find_groups(model)

    @property
    def score_kind(self) -> ScoreKind:
        """Probabilities of mask classifiers, "sigmoid" if the decode head is trained class by class, else logits."""
        head = _last_head(self._model)
        if _MASK_CLASSIFIERS & {kind.__name__ for kind in type(head).__mro__}:
            return "probabilities"
        losses = getattr(head, "loss_decode", None)
        first = losses[0] if isinstance(losses, nn.ModuleList) else losses
        return "sigmoid" if getattr(first, "use_sigmoid", False) else "logits"

    def loss(self, images: Tensor, targets: Sequence[Target]) -> Mapping[str, Tensor]:
        """Return upstream's own losses of decode and auxiliary heads, weights applied, averaged as in upstream.

        images:  (N, 3, H, W) float32, normalised by `input_spec`.
        targets: N targets with label maps on the device of `images`.

        Returns 0-d tensors: those of upstream's results whose name has "loss" in it, which are what upstream sums.
        What upstream gives as a plain zero, where every pixel is to be ignored, is a part of the graph here.

        Raises InputError if a target has no label map, or where a head that pools over the whole image normalises
        over a batch of a single image.
        """
        samples = [self._sample(images, target) for target in targets]
        with without_old_style(), _sizes_explained(images):
            return named_losses(self._model.loss(images, samples), self._model.decode_head)

    def features(self, images: Tensor) -> Mapping[str, Tensor]:
        """Return `{tap name: (N, C, H / s, W / s)}` of the current mode, with gradients if they are enabled."""
        with capture(self._model, self.taps) as features:
            self._scores(images)
        return features

    def predict(self, images: Tensor) -> Sequence[Prediction]:
        """Return a label map of the size of the network input for each image, and no boxes.

        Raises RuntimeError if the module is in train mode.
        """
        if self._model.training:
            raise RuntimeError("MmsegAdapter.predict: the module must be in eval mode; call module.eval() first")
        with torch.no_grad():
            return label_maps(self.dense_logits(images), images.shape[-2:])

    def dense_logits(self, images: Tensor) -> Tensor:
        """Return (N, C, H, W) scores of the C classes, as the decode head gives them when upstream tests.

        `score_kind` names their kind. In the current mode, with gradients if they are enabled. In eval mode each
        image's scores are its own: the same whenever it is asked, alone or among others.
        """
        head = type(self._model.decode_head).__name__
        if self._model.training or head not in _RANDOM_HEADS:
            return self._scores(images)
        scores = []
        for image in images:
            with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
                torch.manual_seed(0)
                scores.append(self._scores(image[None]))
        return torch.cat(scores)

    def export_graphs(self, images: Tensor) -> ExportGraphs:
        """Return backbone, neck and decode head, without resizing; see `tlvision.plugin.Exportable`."""
        return export_graphs(self._model, images, self.score_kind)

    def _scores(self, images: Tensor) -> Tensor:
        """Run the whole model and return (N, C, H, W)."""
        model, head = self._model, self._model.decode_head
        metas = [_meta(images) for _ in images]
        main = _MAIN_SCORES.get(type(head).__name__)
        with without_old_style(), _sizes_explained(images):
            if main is None or not head.training:
                scores: Tensor = model.encode_decode(images, metas)
            else:
                scores = head.predict_by_feat(head(model.extract_feat(images))[main], metas)
        return scores

    def _sample(self, images: Tensor, target: Target) -> Any:
        if target.semantic is None:
            raise InputError("mmseg: a target has no label map; give `data` label maps or polygons")
        sample = SegDataSample(metainfo=_meta(images))
        sample.gt_sem_seg = PixelData(data=target.semantic[None])
        if self._edge_width is not None:
            sample.gt_edge_map = PixelData(data=_edges(target.semantic, self._edge_width)[None])
        return sample


def _last_head(model: Any) -> Any:
    """Return the decode head that gives the scores: the last one of a cascade."""
    head = model.decode_head
    return head[-1] if isinstance(head, nn.ModuleList) else head


def _meta(images: Tensor) -> dict[str, Any]:
    size = tuple(int(side) for side in images.shape[-2:])
    return {"img_shape": size, "ori_shape": size, "pad_shape": size, "batch_input_shape": size, "flip": False}


def _edges(label_map: Tensor, width: int) -> Tensor:
    """Return (H, W) int64, 1 within `width` pixels of where two classes meet, as upstream's pipeline makes it."""
    step = GenerateEdge(edge_width=width, ignore_index=IGNORE_INDEX)
    found = step.transform({"img_shape": tuple(label_map.shape), "gt_seg_map": label_map.cpu().numpy()})
    return torch.from_numpy(found["gt_edge_map"]).to(label_map)


@contextmanager
def _sizes_explained(images: Tensor) -> Iterator[None]:
    """Raise InputError with a remedy if images or batches are too small for the model."""
    count, _, height, width = images.shape
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise InputError(
            f"mmseg: the model pools over the whole image and normalises the result over the batch, which has {count} "
            f"image of {height} x {width}: at least 2 are needed in training; give `data.batch.labelled` 2 or more, or "
            "choose another decode head"
        ) from error
    except RuntimeError as error:
        if "Output size is too small" not in str(error):
            raise
        raise InputError(
            f"mmseg: images of {height} x {width} are smaller than the model's pooling windows; use larger ones "
            "(`data.image_size`, `data.augment.crop`), or another decode head"
        ) from error
