"""`harness fetch dinov2` against a small server: resuming, checking, and --from FOLDER."""

import dataclasses
import hashlib
import http.server
import threading

import pytest

from eval.features import transformer_weights
from eval.features.transformer_weights import PUBLISHED, File, fetch, folder_of
from harness.base.errors import DataError, EnvironmentFault
from harness.files import download

CONTENT = {"config.json": b"{}" * 50, "model.safetensors": bytes(range(256)) * 3000}


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the first `cut` replies of more than 1 kB break off half way."""

    cut = 0
    begun: list = []  # noqa: RUF012

    def do_GET(self):
        content = CONTENT[self.path.rpartition("/")[2]]
        begin = int((self.headers.get("Range") or "bytes=0-").split("=")[1].rstrip("-"))
        type(self).begun.append(begin)
        body = content[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if type(self).cut and len(body) > 1024:
            type(self).cut -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Where the files go; a server and CONTENT stand for the published ones."""
    Handler.cut, Handler.begun = 0, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    config, weights = (
        File(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENT.items()
    )
    monkeypatch.setitem(PUBLISHED, "dinov2", dataclasses.replace(
        PUBLISHED["dinov2"], url=f"http://127.0.0.1:{server.server_port}", config=config,
        weights=weights,
    ))
    yield folder_of("dinov2")
    server.shutdown()
    server.server_close()


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_download_that_breaks_off_is_continued_and_made_once(place):
    Handler.cut = 1
    assert fetch("dinov2") == place
    assert content(place) == CONTENT
    assert Handler.begun[:2] == [0, 0] and Handler.begun[2] > 0
    assert fetch("dinov2") == place and len(Handler.begun) == 3


def test_from_a_folder(place, tmp_path):
    source = tmp_path / "usb"
    source.mkdir()
    (source / "config.json").write_bytes(CONTENT["config.json"])
    with pytest.raises(DataError, match=r"model\.safetensors is missing"):
        fetch("dinov2", source)
    (source / "model.safetensors").write_bytes(CONTENT["model.safetensors"][:-1] + b"?")
    with pytest.raises(DataError, match="not the published file"):
        fetch("dinov2", source)
    (source / "model.safetensors").write_bytes(CONTENT["model.safetensors"])
    assert content(fetch("dinov2", source)) == CONTENT and not Handler.begun


def test_a_stranger_in_the_place_is_left_alone(place):
    place.mkdir(parents=True)
    (place / "config.json").write_bytes(b"mine")
    with pytest.raises(DataError, match="move it away"):
        fetch("dinov2")
    assert content(place) == {"config.json": b"mine"}


def test_no_network_is_exit_5(place, monkeypatch):
    monkeypatch.setitem(PUBLISHED, "dinov2", dataclasses.replace(
        PUBLISHED["dinov2"], url="http://127.0.0.1:9/none"
    ))
    with pytest.raises(EnvironmentFault, match="--from FOLDER") as error:
        fetch("dinov2")
    assert error.value.exit_code == 5


def test_what_is_published_is_pinned():
    for published in PUBLISHED.values():
        assert published.weights.name in transformer_weights.WEIGHTS
        assert len(published.weights.sha256) == len(published.config.sha256) == 64
        assert published.weights.size > 1e9 and published.settings["heads"] == 16
