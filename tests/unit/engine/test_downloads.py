"""Images are downloaded only if asked for, and what a server may answer instead is one sentence each."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tlvision.cli.main import main
from tlvision.engine.downloads import DownloadLimits, download_images

SHORT = DownloadLimits(num_bytes=1 << 17, silence=0.3, seconds=0.6)


ANSWERS: dict[str, tuple[int, str, bytes, int | None]] = {
    "page.png": (200, "text/html", b"<html></html>", 13),
    "error.png": (500, "text/plain", b"", 0),
    "large.png": (200, "image/png", b"x", 1 << 30),
    "endless.png": (200, "image/png", b"x" * 200_000, None),
}
"""Name -> code, type, content, and the length in the header."""
REDIRECTS = {
    "moved.png": "/a.png",
    "to_file.png": Path(__file__).as_uri(),
    "to_ftp.png": "ftp://127.0.0.1/a.png",
    "round.png": "/round.png",
}


class Handler(BaseHTTPRequestHandler):
    """Answers by the path; `picture` is the content of a PNG."""

    picture = b""
    stop = threading.Event()

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2].partition("?")[0]
        if name in REDIRECTS:
            self.redirect(REDIRECTS[name])
        elif name in ANSWERS:
            self.answer(*ANSWERS[name])
        elif name == "cut.png":
            self.answer(200, "image/png", self.picture[:-10], len(self.picture))
        elif name == "hanging.png":
            self.stop.wait(5)
        elif name == "slow.png":
            self.answer(200, "image/png", b"", 1000)
            while not self.stop.wait(0.1):
                self.wfile.write(b"x")
        elif name == "gone.png":
            self.send_error(404)
        else:
            self.answer(200, "image/png", self.picture)

    def answer(self, code: int, kind: str, content: bytes, length: int | None = None) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def redirect(self, target: str) -> None:
        self.send_response(302)
        self.send_header("Location", target)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


class Server(ThreadingHTTPServer):
    """A server whose clients may leave at any time."""

    def handle_error(self, *_: object) -> None:
        """Print nothing: the client has closed the connection."""


@pytest.fixture
def server(tiny_dataset: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a server on this machine."""
    monkeypatch.setenv("no_proxy", "*")
    Handler.picture = (tiny_dataset / "images" / "001.png").read_bytes()
    Handler.stop.clear()
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        Handler.stop.set()
        running.shutdown()
        thread.join()


BAD = {
    "/gone.png": "the server answered 404 Not Found",
    "/error.png": "the server answered 500",
    "/page.png": "the server sent no image that can be read (13 bytes of text/html)",
    "/large.png": "the file is larger than 0.125 MiB",
    "/endless.png": "the file is larger than 0.125 MiB",
    "/cut.png": "the connection ended 10 bytes before the end",
    "/hanging.png": "the server did not answer within 0.3 seconds",
    "/slow.png": "the download takes longer than 0.6 seconds",
    "/to_file.png": "is not allowed",
    "/to_ftp.png": "redirects to 'ftp://127.0.0.1/a.png'; only http and https",
    "/round.png": "infinite loop",
    "/clip.mp4": "videos are not downloaded",
}


@pytest.mark.parametrize("path", BAD)
def test_what_is_no_image_is_a_sentence_and_leaves_no_file(path: str, server: str, tmp_path: Path) -> None:
    files, ((address, problem),) = download_images([server + path], tmp_path, SHORT)
    assert (files, address) == ([], server + path)
    assert BAD[path] in str(problem)
    assert not [each for each in tmp_path.rglob("*") if each.is_file()]


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("ftp://127.0.0.1/a.png", "only http and https"),
        (Path(__file__).as_uri(), "only http and https"),
        ("http://", "only http and https"),
        ("http://[::1/a.png", "is no address"),
        ("http://127.0.0.1:99999/a.png", "is no address"),
        ("http://me:secret@127.0.0.1/a.png", "user name or password"),
        ("http://127.0.0.1:1/a.png", "cannot be downloaded"),
        ("http://does not exist/a.png", "cannot be downloaded"),
    ],
)
def test_other_addresses_are_refused(address: str, words: str, tmp_path: Path) -> None:
    files, ((_, problem),) = download_images([address], tmp_path, SHORT)
    assert files == []
    assert words in str(problem)


def test_names_stay_apart_and_inside_the_folder(server: str, tmp_path: Path) -> None:
    paths = ["/a.png", "/day/a.png", "/moved.png", "/image", "/b.jpg?size=9", "/..%2f..%2fx.png", "/a.png", "/ü a.png"]
    folder = tmp_path / "in"
    files, problems = download_images([server + path for path in paths], folder, SHORT)
    assert problems == []
    names = ["a.png", "a-2.png", "moved.png", "image.png", "b.jpg", "x.png", "__a.png"]
    assert [path.name for path in files] == names
    assert {path.parent for path in files} == {folder / server.removeprefix("http://").replace(":", "_")}
    assert all(path.read_bytes() == Handler.picture for path in files)
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(files)


def test_predict_downloads_only_if_asked(
    small_run: Path, server: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, host = tmp_path / "out", server.removeprefix("http://").replace(":", "_")
    command = ["predict", "--run", str(small_run), "--output", str(out), "--min-score", "0"]
    assert main([*command, f"{server}/a.png"]) == 2
    assert "Set --allow-download to download it" in " ".join(capsys.readouterr().err.split())
    assert not out.exists()
    addresses = [f"{server}/{name}" for name in ("a.png", "gone.png", "page.png")]
    assert main([*command, *addresses, "--allow-download", "--format", "yolo"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert text.count("not predicted") == 2
    assert f"not predicted {server}/gone.png: the server answered 404" in text
    assert (out / "downloads" / host / "a.png").read_bytes() == Handler.picture
    assert (out / host / "a.jpg").is_file()
    assert (out / "yolo" / "images" / "train" / host / "a.png").read_bytes() == Handler.picture
    assert {row["file_name"] for row in json.loads((out / "predictions.json").read_text())} == {f"{host}/a.png"}
    assert main([*command, *addresses[1:], "--allow-download"]) == 2
    assert "none of 2 inputs can be read" in " ".join(capsys.readouterr().err.split())
