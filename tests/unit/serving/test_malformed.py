"""300 malformed requests, as bytes on a socket: each gets an answer below 500, and the server goes on.

A mutation may leave a request valid, such as a bit of a pixel: then the answer is 200. Most must be refused.
"""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from live_server import Running, picture
from tlvision.serving.settings import ServerSettings

Random = np.random.Generator
Request = tuple[bytes, str]
"""Body, and content type."""
BOUNDARY = "b0undary"
FORM = f"multipart/form-data; boundary={BOUNDARY}"
JSON = "application/json"
NAMES = [
    "größe 3.png",
    "图像.png",
    "a\u202eb.png",
    "../../etc/passwd",
    "n" * 5000,
    "",
    '"; filename*=x',
    "a\x00b",
    "\x1b[2J",
]


def form(data: bytes, name: str = "a.png", extra: str = "") -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n{extra}\r\n'
    return head.encode() + data + f"\r\n--{BOUNDARY}--\r\n".encode()


def document(data: bytes) -> bytes:
    return json.dumps({"images": [{"data": base64.b64encode(data).decode()}]}).encode()


def either(rng: Random, data: bytes) -> Request:
    """Send a file in one of both ways."""
    return (form(data), FORM) if rng.random() < 0.5 else (document(data), JSON)


def cut(data: bytes, rng: Random) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def flip(data: bytes, rng: Random) -> bytes:
    changed = bytearray(data)
    for place in rng.integers(0, len(data), int(rng.integers(1, 40))):
        changed[place] = int(rng.integers(0, 256))
    return bytes(changed)


def image_of(rng: Random) -> bytes:
    kind = str(rng.choice(["JPEG", "PNG", "WEBP", "TIFF", "BMP"]))
    return picture(int(rng.integers(256)), kind=kind)


def bomb(rng: Random) -> bytes:
    """Return a PNG of a few bytes that declares very many pixels."""
    side = int(rng.choice([5_001, 30_000, 2_000_000, 2**31 - 1]))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(bytes(100_000), 9)) + chunk(b"IEND", b"")


def other_file(rng: Random) -> bytes:
    """Return a file that is no image, or of a format that is not read."""
    gif = io.BytesIO()
    Image.new("RGB", (8, 8)).save(gif, "GIF")
    files = [b"%PDF-1.7", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"<svg/>", b"\0" * 500, gif.getvalue()]
    return files[int(rng.integers(len(files)))]


def wrong_json(rng: Random) -> Request:
    good = document(picture()).decode()
    deep = int(rng.integers(10, 100_000))
    texts = [
        '{"images": [], "min_score": NaN}',
        good[:-1] + ', "min_score": NaN}',
        good[:-1] + ', "min_score": 1e999}',
        good[:-1] + ', "min_score": "0.5"}',
        good[:-1] + ', "min_score": -0.1}',
        good[:-1] + ', "colour": 1}',
        "[" * deep + "]" * deep,
        '{"images": ' * deep + "1" + "}" * deep,
        '{"images": [{"data": 5}]}',
        '{"images": [{"data": "\\ud83d"}]}',
        '{"images": {"data": ""}}',
        '{"images": [{"data": "", "name": "\\ud83d"}]}',
        "null",
        "1" * int(rng.integers(1, 9000)),
        '"' + "a" * 10_000,
        "",
        "\ufeff" + good,
        '{"images": [{"data": "data:image/png;base64,' + base64.b64encode(picture()).decode() + '"}]}',
        '{"images": [{"data": "' + "=" * int(rng.integers(1, 99)) + '"}]}',
        '{"images": [{"data": "größe"}]}',
    ]
    return texts[int(rng.integers(len(texts)))].encode(), JSON


def wrong_form(rng: Random) -> Request:
    good = form(picture())
    texts: list[Request] = [
        (good, "multipart/form-data"),
        (good, "multipart/form-data; boundary="),
        (good, "multipart/form-data; boundary=other"),
        (good, "multipart/form-data; boundary=" + "b" * 300),
        (good.replace(b"--" + BOUNDARY.encode() + b"--", b""), FORM),
        (good.replace(b'name="images"; ', b""), FORM),
        (good.replace(b'filename="a.png"', b""), FORM),
        (good.replace(b"form-data", b"attachment"), FORM),
        (good.replace(b"Content-Disposition", b"X" * int(rng.integers(1, 60_000))), FORM),
        (form(picture(), extra="Content-Type: " + "x" * int(rng.integers(1, 60_000)) + "\r\n"), FORM),
        (form(picture(), extra="X: y\r\n" * int(rng.integers(1, 5_000))), FORM),
        (form(picture(), extra="no colon\r\n"), FORM),
        (good.replace(b"\r\n", b"\n"), FORM),
        (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="min_score"\r\n\r\nnan\r\n'.encode() + good, FORM),
        (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n'.encode() * 50 + good, FORM),
        (f"--{BOUNDARY}--\r\n".encode(), FORM),
        (b"", FORM),
    ]
    return texts[int(rng.integers(len(texts)))]


def wrong_type(rng: Random) -> Request:
    kinds = [
        "text/plain",
        "image/png",
        "",
        "application/x-www-form-urlencoded",
        "multipart/mixed; boundary=b",
        "\u00e9",
        "a" * 900,
    ]
    kind = kinds[int(rng.integers(len(kinds)))]
    return (picture() if rng.random() < 0.5 else document(picture())), kind


KINDS: dict[str, Callable[[Random], Request]] = {
    "truncated form": lambda rng: (cut(form(image_of(rng)), rng), FORM),
    "truncated json": lambda rng: (cut(document(image_of(rng)), rng), JSON),
    "flipped form": lambda rng: (flip(form(image_of(rng)), rng), FORM),
    "flipped json": lambda rng: (flip(document(image_of(rng)), rng), JSON),
    "cut image": lambda rng: either(rng, cut(image_of(rng), rng)),
    "flipped image": lambda rng: either(rng, flip(image_of(rng), rng)),
    "random bytes": lambda rng: either(rng, rng.bytes(int(rng.integers(0, 3000)))),
    "bomb": lambda rng: either(rng, bomb(rng)),
    "other file": lambda rng: either(rng, other_file(rng)),
    "wrong json": wrong_json,
    "wrong form": wrong_form,
    "wrong type": wrong_type,
    "odd name": lambda rng: (form(cut(picture(), rng), name=NAMES[int(rng.integers(len(NAMES)))]), FORM),
}
ROUNDS = 22


def head_of(body: bytes, kind: str, rng: Random) -> tuple[bytes, bool]:
    """Return the head of a request, some headers of which are wrong too, and whether it declares a longer body."""
    length, is_longer = str(len(body)), False
    if rng.random() < 0.1:
        odd = ["-1", "1e3", "9" * 400, str(len(body) + 50), "0", "0x10"]
        length = odd[int(rng.integers(len(odd)))]
        is_longer = length.isdigit() and int(length) > len(body)
    lines = [
        "POST /predict HTTP/1.1",
        "Host: a",
        "Connection: close",
        f"Content-Type: {kind}",
        f"Content-Length: {length}",
    ]
    if rng.random() < 0.05:
        lines.append("X-Large: " + "x" * int(rng.integers(1, 200_000)))
    return ("\r\n".join(lines) + "\r\n\r\n").encode(), is_longer


@pytest.mark.filterwarnings("default")  # Pillow warns of damaged metadata, and of bombs
def test_malformed_requests_are_never_an_error_of_the_server(start: Callable[..., Running]) -> None:
    running = start(ServerSettings(max_body=1_000_000))
    rng = np.random.default_rng(5)
    statuses: dict[str, Counter[int]] = {kind: Counter() for kind in KINDS}
    for _ in range(ROUNDS + 2):
        for kind, make in KINDS.items():
            body, content_type = make(rng)
            head, is_longer = head_of(body, content_type, rng)
            answer = running.exchange(head + body, ends=is_longer)
            # Nobody is left to be answered if a body ends early, or a head is wrong and more is being sent.
            status = int(answer.split(maxsplit=2)[1]) if answer else 0
            statuses[kind][status] += 1
            assert status < 500, (kind, content_type, body[:300], answer)
            if status >= 400 and b"application/json" in answer:
                sentence = json.loads(answer.partition(b"\r\n\r\n")[2])["error"]
                assert 10 < len(sentence) < 1500, sentence
                assert "Traceback" not in sentence
    total = sum(statuses.values(), Counter[int]())
    assert sum(total.values()) >= 300
    assert sum(number for status, number in total.items() if 400 <= status < 500) >= 250, total
    assert total[0] < 30, total
    assert {400, 413, 415, 422} <= set(total)
    assert all(any(status >= 400 for status in found) for found in statuses.values()), statuses
    assert running.client.get("/health").status_code == 200
    assert running.number("tlvision_waiting_images") == 0
    assert len(running.predict(picture()).json()["images"][0]["objects"]) == 1
