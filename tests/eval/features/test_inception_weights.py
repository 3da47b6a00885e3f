"""`harness fetch inception` against a small server: resuming, checking, and --from FILE."""

import hashlib
import http.server
import threading

import pytest

from eval.features import inception_weights
from harness.base.errors import DataError, EnvironmentFault
from harness.files import download

CONTENT = bytes(range(256)) * 5000


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves CONTENT with ranges; the first `cut` requests break off half way."""

    cut = 0
    ranges: list = []  # noqa: RUF012

    def do_GET(self):
        begin = int((self.headers.get("Range") or "bytes=0-").split("=")[1].rstrip("-"))
        type(self).ranges.append(begin)
        if begin >= len(CONTENT):
            self.send_error(416)
            return
        body = CONTENT[begin:]
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"1"')
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.end_headers()
        if type(self).cut:
            type(self).cut -= 1
            body = body[: len(body) // 2]
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    Handler.cut, Handler.ranges = 0, []
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/weights.pth"
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """A TORCH_HOME of its own, and CONTENT as the published file."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(download.time, "sleep", lambda _: None)
    digest = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setattr(inception_weights, "OFFICIAL_SHA256_PREFIX", digest[:8])
    return inception_weights.weights_path()


def test_it_is_downloaded_to_where_torch_hub_looks(url, place):
    assert inception_weights.fetch(url=url) == place
    assert place.read_bytes() == CONTENT
    assert inception_weights.fetch(url=url) == place
    assert Handler.ranges == [0]  # the second call fetched nothing
    assert [p.name for p in place.parent.iterdir()] == [place.name]


def test_a_broken_download_is_continued(url, place):
    Handler.cut = 1
    assert inception_weights.fetch(url=url).read_bytes() == CONTENT
    assert Handler.ranges[0] == 0 and Handler.ranges[1] > 0
    assert [p.name for p in place.parent.iterdir()] == [place.name]


def test_a_wrong_beginning_is_thrown_away(url, place):
    place.parent.mkdir(parents=True)
    place.with_name(place.name + ".part").write_bytes(b"x" * 1000)  # nothing says of what
    assert inception_weights.fetch(url=url).read_bytes() == CONTENT


def test_another_file_on_the_server_is_not_kept(url, place, monkeypatch):
    monkeypatch.setattr(inception_weights, "OFFICIAL_SHA256_PREFIX", "0" * 8)
    with pytest.raises(DataError, match="not the published file"):
        inception_weights.fetch(url=url)
    assert not list(place.parent.iterdir())


def test_no_network_is_exit_5(place):
    with pytest.raises(EnvironmentFault, match="same command continues.*--from FILE"):
        inception_weights.fetch(url="http://127.0.0.1:9/none")


def test_from_a_file(tmp_path, place):
    (tmp_path / "good").write_bytes(CONTENT)
    assert inception_weights.fetch(tmp_path / "good").read_bytes() == CONTENT


def test_a_wrong_file_is_refused_and_changes_nothing(tmp_path, place):
    (tmp_path / "bad").write_bytes(CONTENT[:-1])
    with pytest.raises(DataError):
        inception_weights.fetch(tmp_path / "bad")
    with pytest.raises(DataError, match="missing"):
        inception_weights.fetch(tmp_path / "none")
    assert not place.exists()


def test_a_stranger_in_the_place_is_left_alone(url, place):
    place.parent.mkdir(parents=True)
    place.write_bytes(b"mine")
    with pytest.raises(DataError, match="move it away"):
        inception_weights.fetch(url=url)
    assert place.read_bytes() == b"mine"
