"""Health, metrics, the description of the API, and the pages."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import jsonschema
from openapi_spec_validator import validate
from prometheus_client.parser import text_string_to_metric_families

import tlvision.runtime
from hand_made_bundles import write_detector, write_segmenter
from live_server import Running, as_json, picture


def test_health_names_the_model(running: Running) -> None:
    answer = running.client.get("/health")
    assert answer.status_code == 200
    state = answer.json()
    assert state.pop("version")
    assert state == {"status": "ok", "model": "colours", "task": "detect", "classes": ["red", "green", "blue"]}


def test_metrics_count_what_was_asked(running: Running) -> None:
    def numbers() -> dict[str, float]:
        text = running.client.get("/metrics").text
        samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
        return {sample.name + json.dumps(sample.labels, sort_keys=True): sample.value for sample in samples}

    before = numbers()
    running.predict(picture(), picture())
    running.client.post("/predict", content=b"{", headers={"Content-Type": "application/json"})
    running.client.get("/made/up")
    after = numbers()
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown['tlvision_requests_total{"path": "/predict", "status": "200"}'] == 1
    assert grown['tlvision_requests_total{"path": "/predict", "status": "400"}'] == 1
    assert grown['tlvision_requests_total{"path": "other", "status": "404"}'] == 1
    assert grown["tlvision_images_total{}"] == 2
    assert grown["tlvision_batch_images_sum{}"] == 2
    assert grown['tlvision_request_seconds_count{"path": "/predict"}'] == 2
    assert after["tlvision_waiting_images{}"] == 0
    assert not [name for name in after if "made" in name]


def test_the_description_of_the_api_is_valid_and_true(
    running: Running, start: Callable[..., Running], tmp_path: Path
) -> None:
    api = running.client.get("/openapi.json").json()
    validate(api)
    assert set(api["paths"]) == {"/predict", "/health", "/metrics"}
    operation = api["paths"]["/predict"]["post"]
    assert set(operation["requestBody"]["content"]) == {"multipart/form-data", "application/json"}

    def check(schema: dict[str, object], value: object) -> None:
        jsonschema.validate(value, {**schema, "components": api["components"]})

    def schema_of(status: int, path: str = "/predict", method: str = "post") -> dict[str, object]:
        found: dict[str, object] = api["paths"][path][method]["responses"][str(status)]["content"]["application/json"]
        return found["schema"]  # type: ignore[return-value]

    check(operation["requestBody"]["content"]["application/json"]["schema"], as_json(picture(), min_score=0.5))
    models = [write_detector(tmp_path / "masks", masks=True), write_segmenter(tmp_path / "labels")]
    servers = [running, *(start(model=tlvision.runtime.load(folder, threads=1)) for folder in models)]
    for server in servers:
        check(schema_of(200), server.predict(picture()).json())
    refused = running.predict(b"no image")
    check(schema_of(refused.status_code), refused.json())
    check(schema_of(200, "/health", "get"), running.client.get("/health").json())


def test_pages_need_no_network(running: Running) -> None:
    for path in ("/", "/docs"):
        page = running.client.get(path)
        assert page.status_code == 200
        links = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
        assert links
        assert not [link for link in links if "//" in link], path
        for link in links:
            assert running.client.get(link).status_code == 200, link


def test_wrong_paths_and_methods_are_sentences(running: Running) -> None:
    absent, wrong = running.client.get("/absent"), running.client.get("/predict")
    assert (absent.status_code, wrong.status_code) == (404, 405)
    assert absent.json()["error"].startswith("GET /absent: Not Found. Paths: /, /docs")
    assert wrong.json()["error"].startswith("GET /predict: Method Not Allowed.")
