"""An HTTP server on the loopback that misbehaves as it is told, once a request."""

from __future__ import annotations

import contextlib
import hashlib
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Site:
    """Files by path, and for each path what to do wrong with the next requests, in order.

    Misdeeds: break (cut the connection after `at` bytes), short (fewer bytes than
    announced), long_length, short_length (a Content-Length that is wrong), wrong_bytes,
    no_length, ignore_range, wrong_range, no_validator, changed (another ETag from then
    on), encoded, stall, status NNN. `log`: (method, path, Range header).
    """

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.misdeeds: dict[str, list[str]] = {}
        self.always: dict[str, str] = {}
        self.log: list[tuple[str, str, str | None]] = []
        self.base = ""

    def gets(self, name: str) -> list[str | None]:
        """The Range headers of the GETs of `name`."""
        return [r for method, path, r in self.log if method == "GET" and path == f"/{name}"]


@contextlib.contextmanager
def serve() -> Iterator[Site]:
    """A site that is served while the context lasts."""
    site = Site()

    class Handler(_Handler):
        pass

    Handler.site = site
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.base = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    site: Site
    protocol_version = "HTTP/1.1"
    timeout = 20

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.site.log.append(("HEAD", self.path, None))
        content = self.site.files.get(self.path[1:])
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()

    def do_GET(self) -> None:
        site, name = self.site, self.path[1:]
        wanted = self.headers.get("Range")
        site.log.append(("GET", self.path, wanted))
        queue = site.misdeeds.get(name, [])
        deed = queue.pop(0) if queue else site.always.get(name, "")
        content = site.files.get(name)
        if content is None or deed.startswith("status"):
            self._empty(int(deed.split()[1]) if deed else 404)
            return
        if deed == "changed":
            content = site.files[name] = bytes(reversed(content))
        tag = '"' + hashlib.sha256(content).hexdigest()[:16] + '"'
        start = self._start(wanted, tag, deed, len(content))
        if start is not None and start >= len(content):
            self._empty(416)
            return
        self._send(content, start, tag, deed)

    def _start(self, wanted: str | None, tag: str, deed: str, size: int) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", wanted or "")
        if not match or deed == "ignore_range" or self.headers.get("If-Range", tag) != tag:
            return None
        return int(match[1])

    def _send(self, content: bytes, start: int | None, tag: str, deed: str) -> None:
        body = content[start or 0 :]
        kind, _, number = deed.partition(" ")
        length = len(body)
        if kind == "long_length":
            length += 1000
        elif kind == "short_length":
            length -= int(number or 1000)
        elif kind == "wrong_bytes":
            body = body[:200] + bytes(b ^ 0x55 for b in body[200:216]) + body[216:]
        self.send_response(200 if start is None else 206)
        if start is not None:
            first = start + 7 if kind == "wrong_range" else start
            self.send_header("Content-Range", f"bytes {first}-{len(content) - 1}/{len(content)}")
        if kind != "no_length":
            self.send_header("Content-Length", str(length))
        if kind != "no_validator":
            self.send_header("ETag", tag)
        if kind == "encoded":
            self.send_header("Content-Encoding", "gzip")
        if kind in ("break", "short", "long_length", "no_length", "no_validator", "stall"):
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if kind in ("break", "short", "no_validator", "stall"):
            body = body[: int(number or len(body) // 2)]
        with contextlib.suppress(OSError):
            self.wfile.write(body[:length])
            if kind == "stall":
                threading.Event().wait(3)

    def _empty(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()
