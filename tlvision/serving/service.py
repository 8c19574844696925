"""Answer one request: body, images, predictions, answer."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeVar

from fastapi import Request

from tlvision.runtime.model import RuntimeModel
from tlvision.runtime.observe import Observation
from tlvision.runtime.prepared import PreparedImage
from tlvision.serving.answers import ImageAnswer, PredictAnswer, answer_of
from tlvision.serving.batching import Batcher
from tlvision.serving.decoding import prepare_file
from tlvision.serving.errors import RequestError
from tlvision.serving.metrics import Metrics
from tlvision.serving.settings import ServerSettings
from tlvision.serving.uploads import Uploads, read_uploads
from tlvision.serving.waiting import RETRY_AFTER, Waiting
from tlvision.types import Prediction

Result = TypeVar("Result")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class PredictedImage:
    """An image that was predicted, for those who keep records.

    name:        of the file, as the client says; not unique.
    data:        the content of the file.
    image:       size and network input.
    found:       all that was found, in pixels of the image, with the scores of the model.
    prediction:  what of it counts by the thresholds of the bundle, whatever the request asks for.
    observation: statistics for `tlvision.monitoring`.
    """

    name: str
    data: bytes
    image: PreparedImage
    found: Prediction
    prediction: Prediction
    observation: Observation


Observer = Callable[[PredictedImage], None]
"""Gets every predicted image, in the thread of the model; what it raises is logged, and changes no answer."""


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """An image to be predicted. data: the content of its file. min_score: 0..1; None for the bundle's thresholds."""

    name: str
    data: bytes
    image: PreparedImage
    min_score: float | None


class PredictionService:
    """A model with its threads; `close` ends them.

    observe: gets every predicted image; None for nobody.
    """

    def __init__(self, model: RuntimeModel, settings: ServerSettings, observe: Observer | None = None) -> None:
        self.model, self.settings, self._observe = model, settings, observe
        self.waiting = Waiting(settings.max_waiting)
        self.metrics = Metrics(lambda: self.waiting.now)
        self._decoders = ThreadPoolExecutor(settings.decoders, "tlvision-decoder")
        self._batcher = Batcher(self._predict, most=settings.batch, delay=settings.batch_delay)

    @property
    def is_alive(self) -> bool:
        """Whether images can be predicted."""
        return self._batcher.is_alive

    def close(self) -> None:
        """Finish what is on its way, and end the threads."""
        self._decoders.shutdown()
        self._batcher.close()

    async def answer(self, request: Request) -> PredictAnswer:
        """Answer one request.

        Raises RequestError; see `docs/serving.md` for the cases.
        """
        seconds = self.settings.timeout
        with self.waiting.place() as place:
            try:
                async with asyncio.timeout(seconds):
                    uploads = await read_uploads(request, self.settings)
            except TimeoutError:
                raise RequestError(
                    HTTPStatus.REQUEST_TIMEOUT, f"The body was not complete after {seconds:g} seconds. Send it again."
                ) from None
            place.resize(len(uploads.images))
            try:
                async with asyncio.timeout(seconds):
                    images = await self._answers(uploads)
            except TimeoutError:
                raise RequestError(
                    HTTPStatus.SERVICE_UNAVAILABLE,
                    f"There was no prediction after {seconds:g} seconds. Try again later, or send fewer images.",
                    retry_after=RETRY_AFTER,
                ) from None
        return PredictAnswer(model=self.model.name, images=images)

    async def _answers(self, uploads: Uploads) -> list[ImageAnswer]:
        """Decode all images, and then predict them: nothing is predicted if one of them is refused."""
        futures = [
            self._decoders.submit(prepare_file, self.model, upload.data, upload.name, self.settings.max_pixels)
            for upload in uploads.images
        ]
        images = await _all(futures)
        orders = [
            _Order(upload.name, b"" if self._observe is None else upload.data, image, uploads.min_score)
            for upload, image in zip(uploads.images, images, strict=True)
        ]
        return await _all([self._batcher.submit(order) for order in orders])

    def _predict(self, orders: Sequence[_Order]) -> Iterator[tuple[int, ImageAnswer]]:
        """Predict a batch, in the thread of the model."""
        selection = self.model.selection
        start = time.perf_counter()
        # Objects below the floor take part in the merge of tiles: no image gets the floor of another request.
        floors: dict[float, list[int]] = {}
        for index, order in enumerate(orders):
            floors.setdefault(min(selection.least(order.min_score), selection.least()), []).append(index)
        for least, indices in floors.items():
            images = [orders[index].image for index in indices]
            observed = self._observe is not None
            for number, found, seen in self.model.predict_prepared(images, least=least, observed=observed):
                yield indices[number], self._answer_of(orders[indices[number]], found, seen)
        self.metrics.batch.observe(len(orders))
        self.metrics.batch_seconds.observe(time.perf_counter() - start)

    def _answer_of(self, order: _Order, found: Prediction, seen: Observation | None) -> ImageAnswer:
        """Return the answer for one image, and tell the observer. Every predicted image passes here."""
        selection, sample = self.model.selection, order.image.sample
        self.metrics.images.inc()
        if self._observe is not None and seen is not None:
            counting = selection.select(found)
            self._record(self._observe, PredictedImage(order.name, order.data, order.image, found, counting, seen))
        counting = selection.select(found, order.min_score)
        return answer_of(order.name, (sample.height, sample.width), counting, self.model.classes)

    def _record(self, observe: Observer, predicted: PredictedImage) -> None:
        try:
            observe(predicted)
        except Exception:
            _log.exception("no record of '%s'", predicted.name)


async def _all(futures: Sequence[Future[Result]]) -> list[Result]:
    """Return all results once all are there, so that none is left on its way; raise the first error."""
    results = await asyncio.gather(*map(asyncio.wrap_future, futures), return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]
