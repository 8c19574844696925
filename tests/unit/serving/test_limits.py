"""Limits hold, whatever a request declares, and each is an answer with a sentence."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from live_server import Running, SlowModel, picture, wait_for
from tlvision.serving.settings import ServerSettings
from tlvision.types import InputError

Start = Callable[..., Running]


@pytest.fixture(scope="module")
def strict(start: Start) -> Running:
    return start(ServerSettings(max_body=20_000, max_pixels=2_000, max_images=3, max_waiting=3, timeout=0.5))


def refused(answer: httpx.Response, status: int, words: str) -> None:
    assert answer.status_code == status, answer.text
    assert list(answer.json()) == ["error"]
    assert words in answer.json()["error"]
    assert answer.json()["error"].endswith(".")


def test_a_body_that_declares_too_much_is_not_read(strict: Running) -> None:
    with socket.create_connection(strict.address, timeout=10) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 20001\r\n\r\n"
        connection.sendall(head.encode())
        assert connection.recv(1000).startswith(b"HTTP/1.1 413")


def test_a_body_without_a_length_is_cut_off(strict: Running) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(100):
            yield b"x" * 1000

    answer = strict.client.post("/predict", content=endless(), headers={"Content-Type": "application/json"})
    refused(answer, 413, "more than 20,000 bytes")


def test_pixels_are_counted_before_decoding(strict: Running) -> None:
    refused(strict.predict(picture(size=(200, 11))), 413, "'image 1' has 200 x 11 pixels, more than 2,000")
    assert strict.predict(picture(size=(200, 10))).status_code == 200


def test_images_are_counted(strict: Running) -> None:
    refused(strict.predict(*[picture()] * 4), 413, "4 images, more than 3")
    files = [("images", (f"{number}.png", picture())) for number in range(9)]
    refused(strict.client.post("/predict", files=files), 413, "9 images, more than 3")
    assert strict.client.post("/predict", files=files[:3]).status_code == 200


def test_a_form_that_ends_early_is_refused_and_not_read_in_part(running: Running) -> None:
    files = [("images", ("a.png", picture())), ("images", ("b.png", picture()))]
    whole = running.client.build_request("POST", "/predict", files=files)
    content, kind = whole.read(), {"Content-Type": whole.headers["Content-Type"]}
    assert running.client.post("/predict", content=content, headers=kind).status_code == 200
    refused(running.client.post("/predict", content=content[:-60], headers=kind), 400, "The multipart body has no end")


def test_a_slow_body_is_given_up(strict: Running) -> None:
    with socket.create_connection(strict.address, timeout=10) as connection:
        head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        connection.sendall(head.encode())
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(1000)
    assert answer.startswith(b"HTTP/1.1 408")
    assert b"not complete after 0.5 seconds" in answer


def test_one_refused_image_refuses_the_request_and_names_it(running: Running) -> None:
    before = running.number("tlvision_images_total")
    files = [("images", ("good.png", picture())), ("images", ("bad.png", picture()[:60]))]
    refused(running.client.post("/predict", files=files), 422, "'bad.png' is truncated or damaged")
    assert running.number("tlvision_images_total") == before


def test_a_full_server_refuses_and_recovers(start: Start, slow: SlowModel) -> None:
    running = start(ServerSettings(max_images=2, max_waiting=3), model=slow)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(running.predict, picture(), picture())
        wait_for(lambda: running.number("tlvision_waiting_images") == 2)
        busy = running.predict(picture(), picture())  # one would fit
        refused(busy, 503, "busy: 3 images of 3")
        assert busy.headers["Retry-After"] == "1"
        second = pool.submit(running.predict, picture())
        wait_for(lambda: running.number("tlvision_waiting_images") == 3)
        refused(running.predict(picture()), 503, "busy")
        slow.may_go.set()
        assert [first.result().status_code, second.result().status_code] == [200, 200]
    assert running.number("tlvision_waiting_images") == 0
    assert running.predict(picture(), picture()).status_code == 200


def test_a_request_that_waits_too_long_is_answered(start: Start, slow: SlowModel) -> None:
    running = start(ServerSettings(timeout=0.1), model=slow)
    answer = running.predict(picture())
    refused(answer, 503, "no prediction after 0.1 seconds")
    assert answer.headers["Retry-After"] == "1"
    refused(running.predict(picture()), 503, "no prediction")  # waits behind the first, and is never computed
    slow.may_go.set()
    wait_for(lambda: running.number("tlvision_images_total") == 1)
    assert running.predict(picture()).status_code == 200
    assert slow.sizes == [1, 1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 0}, "batch must be a number above 0, got 0"),
        ({"timeout": float("nan")}, "timeout must be"),
        ({"batch_delay": -1.0}, "batch_delay"),
        ({"max_images": 65}, "max_waiting is 64, fewer than the 65"),
    ],
)
def test_settings_without_a_meaning_are_refused(change: dict[str, float], words: str) -> None:
    with pytest.raises(InputError, match=words):
        ServerSettings(**change)  # type: ignore[arg-type]
