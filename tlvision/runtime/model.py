"""A bundle as an object that predicts, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np
import numpy.typing as npt

from tlvision.data.dataset import EvalImages, Meta
from tlvision.data.images import as_rgb
from tlvision.data.merge_tiles import TilePrediction, merge_tiles
from tlvision.data.tile_images import TileImages
from tlvision.data.way_back import objects_in_image
from tlvision.evaluation.selection import Selection
from tlvision.formats.coco import read_unlabelled
from tlvision.plugin.export import TAP_PREFIX, Candidates, DenseScores
from tlvision.runtime.bundle import Bundle, read_bundle
from tlvision.runtime.candidates import read_candidates
from tlvision.runtime.dense import dense_scores, label_map_of
from tlvision.runtime.observe import Observation, join, observe
from tlvision.runtime.prepared import NetworkInput, PreparedImage
from tlvision.runtime.sessions import SUFFIXES, Session, open_session
from tlvision.runtime.two_stage import read_two_stage
from tlvision.tasks import Task, get_task
from tlvision.types import (
    ClassMap,
    InputError,
    InputSpec,
    Pixels,
    Prediction,
    RunError,
    Sample,
    counted,
    empty_target,
    listing,
)

if TYPE_CHECKING:
    from PIL.Image import Image

    OneImage = str | Path | Image | npt.NDArray[np.generic]

_BATCH = 8
Taps = dict[str, npt.NDArray[np.float32]]


class RuntimeModel:
    """A model that `tlvision export` has written, ready to predict; see `load`.

    bundle:    what bundle.json says. folder: of the bundle. sessions: its graphs, by name.
    selection: which objects count.
    """

    def __init__(self, folder: Path, bundle: Bundle, sessions: Mapping[str, Session]) -> None:
        self.folder, self.bundle, self.sessions = folder, bundle, sessions
        self.selection = Selection(bundle.classes, bundle.thresholds, bundle.score_map)

    @property
    def name(self) -> str:
        """The name of the run that was exported."""
        return self.bundle.name

    @property
    def task(self) -> Task:
        """What the model is for."""
        return get_task(self.bundle.task)

    @property
    def bits(self) -> int | None:
        """Bits in use of images with 16-bit values; None if they are not known."""
        return self.bundle.bits

    @property
    def classes(self) -> ClassMap:
        """The classes, with the ids that they had in the training data."""
        return self.bundle.classes

    def __repr__(self) -> str:
        """Return two lines: the model and its classes."""
        bundle = self.bundle
        return (
            f"RuntimeModel: {bundle.name} ({bundle.task}, {bundle.graph_format}), "
            f"network input {bundle.image_size} px\n"
            f"  {counted(len(self.classes), 'class')}: {listing(self.classes.names, 8)}"
        )

    @overload
    def predict(self, image: OneImage, *, min_score: float | None = None) -> Prediction: ...  # type: ignore[overload-overlap]  # a text is a sequence of texts

    @overload
    def predict(self, image: Sequence[OneImage], *, min_score: float | None = None) -> list[Prediction]: ...

    def predict(
        self, image: OneImage | Sequence[OneImage], *, min_score: float | None = None
    ) -> Prediction | list[Prediction]:
        """Find objects in one image, or in several; arguments and results as for `LoadedModel.predict`.

        image:     the path of a file, a PIL image, or an array (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA,
                   uint8, uint16 or float 0..1. A list or tuple of these, or an array (N, H, W, 3), gives a list.
        min_score: 0..1; objects with a lower score are left out. None: the thresholds of the bundle decide.

        Returns numpy: boxes (K, 4) x0 y0 x1 y1 in pixels of the image, scores (K,) 0..1 in descending order, labels
        (K,) that index `classes.names`, masks (K, H, W) uint8; or a label map `semantic` (H, W).

        Raises InputError if the file cannot be read, or the image is of another kind, shape or dtype.
        """
        if min_score is not None and not 0 <= min_score <= 1:
            raise InputError(f"predict: min_score must be a number from 0 to 1, got {min_score}")
        if isinstance(image, list | tuple) or (hasattr(image, "ndim") and image.ndim == 4):
            return [self._one(each, min_score) for each in image]  # type: ignore[union-attr]
        return self._one(image, min_score)  # type: ignore[arg-type]

    def predict_files(
        self, samples: Sequence[Sample], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction | InputError]]:
        """Yield each sample with all that is found in it, or with the reason why its file cannot be decoded.

        least: objects with a lower score of the model may be left out, which saves time.
        """
        for sample, found, _ in self._files(samples, least, observed=False):
            yield sample, found

    def predict_frames(
        self, frames: Iterable[tuple[Sample, Pixels]], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Pixels, Prediction]]:
        """Yield decoded images with what is found in them, one by one. frames: samples with (H, W, 3) uint8 RGB."""
        for sample, pixels in frames:
            ((_, found),) = self.predict_samples([sample], [pixels], least=least)
            yield sample, pixels, found

    def predict_samples(
        self, samples: Sequence[Sample], pixels: Sequence[Pixels | bytes] | None = None, *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction]]:
        """Yield samples with all that is found in them, in batches of one shape and so not in their order.

        pixels: the images, decoded or as the content of their files; None reads the files. least: as for
                `predict_files`.
        """
        yield from self.predict_inputs(self.inputs(samples, pixels), least=least)

    def predict_inputs(self, images: EvalImages, *, least: float = 0.0) -> Iterator[tuple[Sample, Prediction]]:
        """Yield the samples of network inputs with all that is found in them, as `predict_samples` does.

        images: as `inputs` returns them.
        """
        for sample, found, _ in self._found(images, least, observed=False):
            yield sample, found

    def observe_files(
        self, samples: Sequence[Sample], *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction | InputError, Observation | None]]:
        """Yield what `predict_files` does, with the statistics of each image that can be decoded."""
        yield from self._files(samples, least, observed=True)

    def observe_samples(
        self, samples: Sequence[Sample], pixels: Sequence[Pixels | bytes] | None = None, *, least: float = 0.0
    ) -> Iterator[tuple[Sample, Prediction, Observation]]:
        """Yield what `predict_samples` does, with the statistics of each image for `tlvision.monitoring`."""
        for sample, found, observation in self._found(self.inputs(samples, pixels), least, observed=True):
            assert observation is not None
            yield sample, found, observation

    def _files(
        self, samples: Sequence[Sample], least: float, *, observed: bool
    ) -> Iterator[tuple[Sample, Prediction | InputError, Observation | None]]:
        together = 1 if self.bundle.tiles is not None else _BATCH
        for group in self.inputs(samples, None, whole=True).groups(together):
            part = [samples[index] for index in group]
            try:
                yield from self._found(self.inputs(part), least, observed=observed)
            except InputError:  # one of them is damaged: the others are predicted without it
                for sample in part:
                    try:
                        yield from self._found(self.inputs([sample]), least, observed=observed)
                    except InputError as error:
                        yield sample, error, None

    def _found(
        self, images: EvalImages, least: float, *, observed: bool
    ) -> Iterator[tuple[Sample, Prediction, Observation | None]]:
        """Yield samples with all that is found in them, and if `observed` their statistics."""
        together = 1 if self.bundle.fixed is not None else _BATCH
        parts: list[tuple[TilePrediction, Observation | None]] = []
        for group in images.groups(together):
            draws = [images.draw(index) for index in group]
            batch = prepare([image for image, _, _ in draws], images.input_spec)
            taps: list[Taps] | None = [] if observed else None
            found = self.run(batch, least, taps=taps)
            for row, (number, (image, _, meta), one) in enumerate(zip(group, draws, found, strict=True)):
                seen = None if taps is None else self._observation(image, meta, taps, row, one)
                if not isinstance(images, TileImages):
                    yield images.samples[number], self._in_image(one, meta), seen
                    continue
                tile = images.tiles[number]
                place = tile.box(images.samples[tile.image])
                parts.append((TilePrediction(place, self._in_image(one, meta)), seen))
                if len(parts) == images.count(tile.image):
                    sample = images.samples[tile.image]
                    tiles, observations = zip(*parts, strict=True)
                    whole = merge_tiles(tiles, (sample.height, sample.width), images.settings, images.most)
                    yield sample, whole, join(observations) if observed else None
                    parts = []

    def prepare_image(self, sample: Sample, content: Pixels | bytes) -> PreparedImage:
        """Decode an image, and bring it to the size of the network input; for any number of threads at a time.

        sample:  size and name of the image. content: of its file, or the decoded image, (H, W, 3) uint8 RGB.

        Raises InputError if the file is truncated, damaged or of another size.
        """
        images = self.inputs([sample], [content])
        if isinstance(images, TileImages):
            images.loader.decode(0)  # damage is found here
            return PreparedImage(sample, content)
        pixels, _, meta = images.draw(0)
        return PreparedImage(sample, NetworkInput(pixels, meta))

    def predict_prepared(
        self, images: Sequence[PreparedImage], *, least: float = 0.0, observed: bool = False
    ) -> Iterator[tuple[int, Prediction, Observation | None]]:
        """Yield the index of each image with all that is found in it, images of one shape in one batch.

        A batch holds all images of its shape. least: as for `predict_files`. observed: also yield statistics for
        `tlvision.monitoring`, None otherwise.
        """
        batches: dict[tuple[int, ...], list[tuple[int, NetworkInput]]] = {}
        for index, image in enumerate(images):
            if isinstance(image.content, NetworkInput):
                alone = () if self.bundle.fixed is None else (index,)
                batches.setdefault((*image.content.pixels.shape, *alone), []).append((index, image.content))
                continue
            inputs = self.inputs([image.sample], [image.content])
            ((_, found, observation),) = self._found(inputs, least, observed=observed)
            yield index, found, observation
        for batch in batches.values():
            taps: list[Taps] | None = [] if observed else None
            inputs_of_batch = prepare([each.pixels for _, each in batch], self.bundle.input_spec)
            found_in_batch = self.run(inputs_of_batch, least, taps=taps)
            for row, ((index, each), one) in enumerate(zip(batch, found_in_batch, strict=True)):
                seen = None if taps is None else self._observation(each.pixels, each.meta, taps, row, one)
                yield index, self._in_image(one, each.meta), seen

    def _observation(self, image: Pixels, meta: Meta, taps: Sequence[Taps], row: int, found: Any) -> Observation:
        """Return the statistics of the network input with this number in its batch. taps: of each run of the graph."""
        means = {name: np.mean([each[name][row] for each in taps], axis=0) for name in taps[0]}
        decoder = self.bundle.decoder
        scores = (found, decoder) if isinstance(decoder, DenseScores) else None
        return observe(image, meta.matrix, meta.size, means, scores)

    def run(self, inputs: npt.NDArray[np.float32], least: float = 0.0, *, taps: list[Taps] | None = None) -> list[Any]:
        """Return a prediction in network-input pixels, or (C, H, W) scores of a segmenter, for each network input.

        inputs: (N, 3, H, W), as `prepare` returns them. least: as for `predict_files`.
        taps:   gets `{tap: (N, 2 * C)}` for each run of the graph, of which a sliding window has several.

        Raises RunError if the graph gives numbers that are not finite.
        """
        decoder, size = self.bundle.decoder, (int(inputs.shape[2]), int(inputs.shape[3]))

        def outputs(images: npt.NDArray[np.float32]) -> dict[str, Any]:
            found = self.graph("model", {"images": images}, taps=taps is not None)
            if taps is not None:
                own = [name for name in found if name.startswith(TAP_PREFIX)]
                taps.append({name.removeprefix(TAP_PREFIX): found.pop(name) for name in own})
            return found

        if isinstance(decoder, DenseScores):
            align = decoder.align_corners
            return dense_scores(lambda part: outputs(part)["scores"], inputs, self.bundle.window, align_corners=align)
        if isinstance(decoder, Candidates):
            return read_candidates(outputs(inputs), size, decoder, least)
        return read_two_stage(self.graph, outputs(inputs), size, decoder, least)

    def graph(self, name: str, inputs: Any, *, taps: bool = False) -> dict[str, Any]:
        """Return the outputs of a graph by name, numpy; RunError if they are not finite. taps: as for `Session.run`."""
        outputs = self.sessions[name].run(inputs, taps=taps)
        for output, values in outputs.items():
            # A sum is finite if all numbers are; only a finite sum is sure in any case.
            if not np.isfinite(values.sum(dtype=np.float64)):
                raise RunError(
                    f"runtime: output '{output}' of graph '{name}' of '{self.folder}' is not finite; the weights or "
                    "the image are damaged"
                )
        return outputs

    def _in_image(self, found: Any, meta: Meta) -> Prediction:
        height, width = meta.size
        if isinstance(found, Prediction):
            return objects_in_image(found, meta.matrix, width, height)
        return Prediction.empty(label_map_of(found, meta.matrix, meta.size))

    def inputs(
        self, samples: Sequence[Sample], pixels: Sequence[Pixels | bytes] | None = None, *, whole: bool = False
    ) -> EvalImages:
        """Return the network inputs of samples: images, or their tiles if the bundle has tiles and not `whole`.

        pixels: the images, decoded or as the content of their files; None reads the files.
        """
        bundle = self.bundle
        spec, size = bundle.input_spec, bundle.image_size
        if bundle.tiles is None or whole:
            return EvalImages(samples, spec, size, cache_bytes=0, pixels=pixels, canvas=bundle.fixed)
        return TileImages(
            samples,
            spec,
            size,
            bundle.tiles,
            most=bundle.most,
            label_maps=isinstance(bundle.decoder, DenseScores),
            cache_bytes=0,
            pixels=pixels,
            canvas=bundle.fixed,
        )

    def _one(self, image: OneImage, min_score: float | None) -> Prediction:
        sample, pixels = self.as_sample(image)
        given = None if pixels is None else [pixels]
        ((_, found),) = self.predict_samples([sample], given, least=self.selection.least(min_score))
        return self.selection.select(found, min_score)

    def as_sample(self, image: OneImage) -> tuple[Sample, Pixels | None]:
        """Return an image, as `predict` takes it, as a sample, with its pixels unless it is a file."""
        bits = self.bundle.bits or 16
        if isinstance(image, str | Path):
            if not Path(image).exists():
                raise InputError(f"predict: '{image}' does not exist; give the path of an image file")
            return read_unlabelled([Path(image)], bits=bits)[0], None
        pixels = as_rgb(image, bits=bits)
        return _sample(pixels), pixels


def prepare(images: Sequence[Pixels], spec: InputSpec) -> npt.NDArray[np.float32]:
    """Return (N, 3, H, W) float32 network inputs of images (H, W, 3) uint8 RGB of one size, normalised.

    The numbers are those of `tlvision.data.batches.normalise`.
    """
    values = np.stack(images).transpose(0, 3, 1, 2).astype(np.float32, order="C")
    if spec.channel_order == "bgr":
        values = values[:, ::-1]
    if spec.value_range != 255.0:
        values = values * np.float32(spec.value_range / 255.0)
    if any(spec.mean):
        values = values - np.array(spec.mean, np.float32)[:, None, None]
    if any(std != 1.0 for std in spec.std):
        values = values / np.array(spec.std, np.float32)[:, None, None]
    return np.ascontiguousarray(values)


def load(bundle: str | Path, *, threads: int | None = None) -> RuntimeModel:
    """Return the model of a bundle, a folder that `tlvision export` has written.

    threads: of one prediction; None lets ONNX Runtime or OpenVINO decide.

    Raises InputError if the folder is no bundle, a file of it is missing or has changed, or the library that runs the
    graphs is not installed.

    Example: ``tlvision.runtime.load("exported").predict("part.jpg")``
    """
    folder = Path(bundle)
    if not folder.is_dir():
        raise InputError(f"bundle: no folder '{folder}'")
    if threads is not None and threads < 1:
        raise InputError(f"bundle: threads must be a whole number from 1 on, got {threads}")
    about = read_bundle(folder)
    if about.graph_format not in SUFFIXES:
        raise InputError(f"bundle: '{folder}' has graphs in the format '{about.graph_format}', which is not known")
    sessions = {name: open_session(folder / file, about.graph_format, threads) for name, file in about.graphs.items()}
    return RuntimeModel(folder, about, sessions)


def _sample(pixels: Pixels) -> Sample:
    height, width = pixels.shape[:2]
    return Sample(
        image_id=1, path=Path("image"), width=width, height=height, exif=False, target=empty_target(), segments=()
    )
