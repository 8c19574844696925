"""Images in, predictions in pixels of the original image out: the one place where they are mapped back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from tlvision.data.batches import eval_batches, normalise
from tlvision.data.dataset import EvalImages, fit_image
from tlvision.data.merge_tiles import TilePrediction, merge_tiles
from tlvision.data.tile_images import TileImages
from tlvision.data.tiles import tile_windows
from tlvision.data.way_back import objects_in_image
from tlvision.inference.dense import confident_label_map, dense_scores, label_map_prediction
from tlvision.inference.finite import check_outputs, check_weights, fail_if_silenced, watch_for_nan
from tlvision.plugin import HasDenseLogits, score_kind
from tlvision.types import InputError, Pixels, Prediction, Sample, check_array

if TYPE_CHECKING:
    import numpy.typing as npt
    from lightning_fabric import Fabric
    from torch import Tensor, nn

    from tlvision.data.settings import TileSettings
    from tlvision.plugin import Adapter


def predict_samples(
    adapter: Adapter, images: EvalImages, *, fabric: Fabric, batch_size: int, workers: int, window: int = 0
) -> Iterator[tuple[Sample, Prediction]]:
    """Yield the samples of `images` with their predictions, in batches of one shape and so not in their order.

    Under several processes each yields its share. The module is put into eval mode and left in it. Predictions are
    numpy, boxes and masks in pixels of the original image, boxes clipped to it. Raises RunError if weights or
    predictions are not finite. Do not collect them where they have
    masks: a hundred of full size an image. A model that scores every pixel is asked for its scores, `window` by window
    (see `tlvision.inference.dense`), and gives a label map.
    """
    if isinstance(images, TileImages):
        yield from _predict_tiles(adapter, images, fabric=fabric, batch_size=batch_size, workers=workers, window=window)
        return
    by_id = {sample.image_id: sample for sample in images.samples}
    share = fabric.global_rank, fabric.world_size
    for image_id, matrix, one in _each(adapter, images, fabric, (batch_size, workers, window), share):
        sample = by_id[image_id]
        yield sample, to_original(one, matrix, sample.width, sample.height)


def _each(
    adapter: Adapter, images: EvalImages, fabric: Fabric, how: tuple[int, int, int], share: tuple[int, int]
) -> Iterator[tuple[int, npt.NDArray[np.float64], Prediction | Tensor]]:
    """Yield image id, matrix and output of each network input of `images`, or of the share (rank, world) of them.

    how: batch size, loading processes and window.
    """
    adapter.module.eval()
    check_weights(adapter.module)
    nan_in: list[str] = []
    first = True
    batch_size, workers, window = how
    pin, (rank, world) = fabric.device.type == "cuda", share
    with torch.inference_mode():
        for batch in eval_batches(images, batch_size=batch_size, workers=workers, pin=pin, rank=rank, world=world):
            inputs = normalise(batch.to(fabric.device).images, adapter.input_spec)
            watch = watch_for_nan(adapter.module, nan_in) if first else nullcontext()
            with fabric.autocast(), watch:
                found = _find(adapter, inputs, window)
            first = False
            check_outputs(found, batch.image_ids)
            fail_if_silenced(found, nan_in)
            nan_in.clear()
            yield from zip(map(int, batch.image_ids), batch.matrices.numpy(), found, strict=True)


def _predict_tiles(
    adapter: Adapter, images: TileImages, *, fabric: Fabric, batch_size: int, workers: int, window: int
) -> Iterator[tuple[Sample, Prediction]]:
    """Yield the samples with what was found in all of their tiles, image by image."""
    mine = images.of_share(fabric.global_rank, fabric.world_size)
    parts: list[TilePrediction] = []
    for number, matrix, one in _each(adapter, mine, fabric, (batch_size, workers, window), (0, 1)):
        tile = mine.tiles[number]
        sample = mine.samples[tile.image]
        x0, y0, x1, y1 = box = tile.box(sample)
        parts.append(TilePrediction(box, to_original(one, matrix, x1 - x0, y1 - y0)))
        if len(parts) == mine.count(tile.image):
            yield sample, merge_tiles(parts, (sample.height, sample.width), mine.settings, mine.most)
            parts = []


def predict_confidence(
    adapter: Adapter, images: EvalImages, *, fabric: Fabric, batch_size: int, workers: int, window: int = 0
) -> Iterator[tuple[Sample, npt.NDArray[np.int64], npt.NDArray[np.float32]]]:
    """Yield the samples of `images` with their label map and how sure the model is of it, both (H, W) of the original.

    Arguments as for `predict_samples`; the model scores every pixel (`HasDenseLogits`). Confidence is 0..1.
    """
    assert isinstance(adapter, HasDenseLogits)
    adapter.module.eval()
    check_weights(adapter.module)
    by_id = {sample.image_id: sample for sample in images.samples}
    kind = score_kind(adapter)
    with torch.inference_mode():
        for batch in eval_batches(images, batch_size=batch_size, workers=workers, pin=fabric.device.type == "cuda"):
            inputs = normalise(batch.to(fabric.device).images, adapter.input_spec)
            with fabric.autocast():
                scores = dense_scores(adapter, inputs, window)
            check_outputs(scores, batch.image_ids)
            for image_id, matrix, one in zip(batch.image_ids, batch.matrices.numpy(), scores, strict=True):
                sample = by_id[int(image_id)]
                yield sample, *confident_label_map(one, matrix, (sample.height, sample.width), kind)


def _find(adapter: Adapter, images: Tensor, window: int) -> Sequence[Prediction] | Tensor:
    """Return a prediction, or the scores of every pixel, for each network input."""
    if isinstance(adapter, HasDenseLogits):
        return dense_scores(adapter, images, window)
    return adapter.predict(images)


def predict_array(
    adapter: Adapter,
    image: npt.NDArray[np.uint8],
    *,
    fabric: Fabric,
    image_size: int,
    window: int = 0,
    tiles: Tiling | None = None,
) -> Prediction:
    """Return the prediction for one image.

    image: (H, W, 3) uint8 RGB. window: as for `predict_samples`. tiles: None for the whole image.

    Raises TypeError or ValueError that shows the expected and the actual shape or dtype.
    """
    check_array("predict", "image", image, ("H", "W", 3), ("uint8",))
    adapter.module.eval()
    if tiles is None:
        return _predict_one(adapter, image, fabric, image_size, window)
    height, width = image.shape[:2]
    boxes = tile_windows(height, width, tiles.settings.size, tiles.settings.overlap)
    if len(boxes) > 1 and tiles.settings.whole and not isinstance(adapter, HasDenseLogits):
        boxes.append((0, 0, width, height))
    found = [
        TilePrediction(box, _predict_one(adapter, image[box[1] : box[3], box[0] : box[2]], fabric, image_size, window))
        for box in boxes
    ]
    return merge_tiles(found, (height, width), tiles.settings, tiles.most)


def _predict_one(
    adapter: Adapter, image: npt.NDArray[np.uint8], fabric: Fabric, image_size: int, window: int
) -> Prediction:
    canvas, matrix = fit_image(image, adapter.input_spec, image_size)
    batch = torch.from_numpy(canvas).permute(2, 0, 1)[None].to(fabric.device)  # (1, 3, H, W)
    with torch.inference_mode(), fabric.autocast():
        inputs = normalise(batch, adapter.input_spec)
        found = _find(adapter, inputs, window)
    check_outputs(found, ("given",))
    return to_original(found[0], matrix, image.shape[1], image.shape[0])


def to_original(
    prediction: Prediction | Tensor, matrix: npt.NDArray[np.float64], width: int, height: int
) -> Prediction:
    """Map a prediction, or (C, h, w) scores, from network-input pixels to pixels of the original image, as numpy.

    matrix: (3, 3) float64, from original to network-input pixels. Boxes are clipped to the image; those that lie in
    the padding alone, and so have no area left, are taken out, with their masks. An object of which only the mask comes
    out empty stays, with an empty mask: boxes do not depend on masks.
    """
    if isinstance(prediction, torch.Tensor):
        return label_map_prediction(prediction, matrix, (height, width))
    return objects_in_image(prediction.numpy(), matrix, width, height)


@contextmanager
def using_weights(module: nn.Module, weights: Mapping[str, Tensor] | None) -> Iterator[None]:
    """Let `module` have `weights` inside the with-block, and its own again after it, bit for bit."""
    if weights is None:
        yield
        return
    own = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    module.load_state_dict(dict(weights))
    try:
        yield
    finally:
        module.load_state_dict(own)


@dataclass(frozen=True, slots=True)
class Tiling:
    """How large images are cut and joined.

    settings: of the tiles. most: objects of an image at most.
    """

    settings: TileSettings
    most: int


def make_inputs(
    adapter: Adapter,
    samples: Sequence[Sample],
    image_size: int,
    tiles: Tiling | None = None,
    *,
    cache_bytes: int | None = None,
    pixels: Sequence[Pixels] | None = None,
) -> EvalImages:
    """Return the network inputs of images, whole or in tiles; arguments as for `EvalImages` and `TileImages`."""
    spec = adapter.input_spec
    if tiles is None:
        return EvalImages(samples, spec, image_size, cache_bytes=cache_bytes, pixels=pixels)
    return TileImages(
        samples,
        spec,
        image_size,
        tiles.settings,
        most=tiles.most,
        label_maps=isinstance(adapter, HasDenseLogits),
        cache_bytes=cache_bytes,
        pixels=pixels,
    )


def predict_files(
    adapter: Adapter,
    samples: Sequence[Sample],
    *,
    fabric: Fabric,
    image_size: int,
    window: int = 0,
    tiles: Tiling | None = None,
) -> Iterator[tuple[Sample, Prediction | InputError]]:
    """Yield each sample with its prediction, or with the reason why its file cannot be decoded.

    The same way from a file to boxes as evaluation's, `predict_samples`. window: as for `predict_samples`. tiles: None
    for whole images.
    """

    def predict(part: Sequence[Sample]) -> list[tuple[Sample, Prediction]]:
        images = make_inputs(adapter, part, image_size, tiles, cache_bytes=0)
        return list(predict_samples(adapter, images, fabric=fabric, batch_size=_BATCH, workers=0, window=window))

    together = 1 if tiles is not None else _BATCH  # masks of several large images would fill the memory
    for group in EvalImages(samples, adapter.input_spec, image_size, cache_bytes=0).groups(together):
        part = [samples[index] for index in group]
        try:
            yield from predict(part)
        except InputError:  # one of them is damaged: the others are predicted without it
            for sample in part:
                try:
                    yield from predict([sample])
                except InputError as error:
                    yield sample, error


def predict_frames(
    adapter: Adapter,
    frames: Iterable[tuple[Sample, Pixels]],
    *,
    fabric: Fabric,
    image_size: int,
    window: int = 0,
    tiles: Tiling | None = None,
) -> Iterator[tuple[Sample, Pixels, Prediction]]:
    """Yield decoded images with their predictions, in their order; the batches and the results are those of files.

    frames: samples with their pixels, (H, W, 3) uint8 RGB. At most two batches of them are kept.
    window, tiles: as for `predict_files`.
    """
    for part in _batches(frames):
        samples, pixels = zip(*part, strict=True)
        images = make_inputs(adapter, samples, image_size, tiles, cache_bytes=0, pixels=pixels)
        found = predict_samples(adapter, images, fabric=fabric, batch_size=_BATCH, workers=0, window=window)
        for (sample, prediction), picture in zip(found, pixels, strict=True):
            yield sample, picture, prediction


def _batches(frames: Iterable[tuple[Sample, Pixels]]) -> Iterator[list[tuple[Sample, Pixels]]]:
    """Yield batches of images of one size, which `predict_samples` therefore leaves in their order."""
    part: list[tuple[Sample, Pixels]] = []
    for sample, pixels in frames:
        if part and (len(part) == _BATCH or part[0][1].shape != pixels.shape):
            yield part
            part = []
        part.append((sample, pixels))
    if part:
        yield part


_BATCH = 8
