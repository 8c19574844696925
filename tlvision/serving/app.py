"""The routes of a server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from importlib.resources import files
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException

from tlvision.runtime.model import RuntimeModel
from tlvision.serving.answers import ErrorAnswer, HealthAnswer, PredictAnswer
from tlvision.serving.errors import RequestError
from tlvision.serving.metrics import CountRequests
from tlvision.serving.service import Observer, PredictionService
from tlvision.serving.settings import ServerSettings
from tlvision.serving.uploads import JSON, MULTIPART, json_schema

PATHS = frozenset({"/", "/predict", "/health", "/metrics", "/docs", "/openapi.json"})
_POLICY = (
    "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src blob: data:; connect-src 'self'"
)
"""Of the page: it may load nothing, and ask this server only."""
_FORM = {
    "type": "object",
    "required": ["images"],
    "properties": {
        "images": {"type": "array", "items": {"type": "string", "format": "binary"}, "description": "image files"},
        "min_score": {"type": "number", "minimum": 0, "maximum": 1, "description": "lowest score of an object"},
    },
}
_REFUSED = {
    400: "The body cannot be read.",
    408: "The body did not arrive in time.",
    413: "The body, an image or the number of images is too large.",
    415: "The body is neither multipart nor JSON.",
    422: "A file is no image, or damaged.",
    503: "The server is busy, or took too long. Try again after the seconds in Retry-After.",
}


def create_app(model: RuntimeModel, settings: ServerSettings, observe: Observer | None = None) -> FastAPI:
    """Return the application that serves a model.

    observe: gets every predicted image; see `Observer`.

    Its threads start here, and end with the lifespan of the application.
    """
    service = PredictionService(model, settings, observe)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app: FastAPI = FastAPIOffline(
        title=f"tlvision: {model.name}",
        description=f"Predicts {model.task.noun} in images.",
        version=version("tlvision"),
        redoc_url=None,
        lifespan=lifespan,
    )
    app.add_middleware(CountRequests, metrics=service.metrics, paths=PATHS)
    _add_errors(app)
    _add_prediction(app, service)
    _add_state(app, service)
    return app


def _add_prediction(app: FastAPI, service: PredictionService) -> None:
    body = {
        "required": True,
        "content": {
            MULTIPART: {"schema": _FORM},
            JSON: {"schema": json_schema()},
        },
    }
    refused: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorAnswer, "description": text} for status, text in _REFUSED.items()
    }

    @app.post("/predict", responses=refused, openapi_extra={"requestBody": body}, response_model_exclude_none=True)
    async def predict(request: Request) -> PredictAnswer:
        """Predict images: files in a form, or base64 in JSON. If one image is refused, so is the request."""
        return await service.answer(request)


def _add_state(app: FastAPI, service: PredictionService) -> None:
    model = service.model
    page = (files("tlvision.serving") / "page.html").read_text(encoding="utf-8")

    @app.get("/health", responses={503: {"model": HealthAnswer, "description": "The model does not run any more."}})
    async def health(response: Response) -> HealthAnswer:
        """Return whether images can be predicted, and by which model."""
        alive = service.is_alive
        response.status_code = HTTPStatus.OK if alive else HTTPStatus.SERVICE_UNAVAILABLE
        return HealthAnswer(
            status="ok" if alive else "failed",
            model=model.name,
            task=model.bundle.task,
            classes=list(model.classes.names),
            version=app.version,
        )

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def metrics() -> Response:
        """Return numbers for Prometheus."""
        return Response(service.metrics.text(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "X-Content-Type-Options": "nosniff"})


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(RequestError)
    async def refuse(request: Request, error: RequestError) -> JSONResponse:
        headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
        return JSONResponse({"error": error.sentence}, error.status, headers)

    @app.exception_handler(HTTPException)
    async def refuse_others(request: Request, error: HTTPException) -> JSONResponse:
        sentence = f"{request.method} {request.url.path}: {error.detail}. Paths: {', '.join(sorted(PATHS))}."
        return JSONResponse({"error": sentence}, error.status_code, error.headers)

    @app.exception_handler(Exception)
    async def fail(request: Request, error: Exception) -> JSONResponse:
        sentence = f"The prediction failed ({type(error).__name__}). The log of the server has the reason."
        return JSONResponse({"error": sentence}, HTTPStatus.INTERNAL_SERVER_ERROR)
