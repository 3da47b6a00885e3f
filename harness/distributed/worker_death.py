"""Connections by which the processes of a job learn at once that one of them has died.

On one machine paddle's launcher ends the others. It knows nothing of other machines' workers, and
a process that waits for a dead one, polling a store that answers, would wait for ever. So every
process keeps a connection to the one that leads: the kernel closes it when its holder dies.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
import time
from typing import Any

from harness.base.progress import say
from harness.distributed import rank_reports

_GRACE = 5.0  # seconds for this process to tell its own error, and for launchers to end it
_MOST = 1 << 16  # bytes of a message
_LEFT: dict[str, Any] = {"left": True}
_GONE = 5  # exit code where another rank was lost: the environment's


class Lifeline:
    """Made once by every process of a job; `leave` before a good end, `fail` before a bad one.

    Without either, or when the line breaks, every other process of the job reports the loss and
    ends with exit code 1, wherever it is.
    """

    def __init__(self, rank: int, size: int, store: Any, host: str):
        """`store`: the job's TCP store; `host`: the machine of rank 0, where the store is."""
        self._rank = rank
        self._over = False
        self._heard = threading.Event()  # of another rank's bad end
        self._peers: list[socket.socket] = []
        if rank == 0:
            server = socket.create_server(("", 0), backlog=size)
            store.set("lifeline", str(server.getsockname()[1]))
            for _ in range(size - 1):
                peer, _ = server.accept()
                self._watch(peer)
            server.close()
        else:
            self._watch(socket.create_connection((host, int(store.get("lifeline"))), timeout=60))
            self._send({"rank": rank})

    def leave(self) -> None:
        """This process has done its work; whatever the others do is theirs."""
        self._over = True
        self._send(_LEFT)

    def fail(self, code: int, message: str) -> None:
        """This process ends with an error of its own, which the others are told."""
        self._over = True
        self._send({"failed": self._rank, "code": code, "message": message[:_MOST // 8]})

    def give_way(self) -> None:
        """Called with an error that a lost rank may have caused (collectives and the store fail
        in many ways): if one was, this does not return, and the loss is what is reported."""
        if self._heard.wait(2.0):
            time.sleep(2 * _GRACE)

    def unanswered(self, where: str) -> None:
        """This process waited for another one in vain; it does not return.

        That one is there, for all the kernel knows: stopped, or on a machine that stands still.
        """
        # The launcher stops the others when the first one ends, and all of them are here by then.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        message = rank_reports.NO_ANSWER + where
        self._end({"failed": self._rank, "code": None, "message": message})

    def _watch(self, peer: socket.socket) -> None:
        peer.settimeout(None)
        # A machine without power closes nothing: ask it, and give it up after half a minute.
        for option, value in (
            (socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)
        ):
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._peers.append(peer)
        threading.Thread(target=self._listen, args=(peer,), daemon=True, name="lifeline").start()

    def _send(self, message: dict[str, Any]) -> None:
        for peer in self._peers:
            with contextlib.suppress(OSError):
                peer.sendall(json.dumps(message).encode() + b"\n")

    def _listen(self, peer: socket.socket) -> None:
        rank = 0  # of whoever is at the other end; those that do not lead are called on
        with contextlib.suppress(OSError, ValueError), peer.makefile("rb") as lines:
            while line := lines.readline(_MOST):
                message = json.loads(line)
                rank = message.get("rank", rank)
                if message == _LEFT:
                    return
                if "failed" in message:
                    self._end(message)
        self._end({"failed": rank, "code": None, "message": f"rank {rank} is gone"})

    def _end(self, message: dict[str, Any]) -> None:
        """Another rank failed, or (code None) is gone: pass it on and end this process."""
        if self._over:
            return
        self._heard.set()
        self._send(message)
        time.sleep(_GRACE)
        if not self._over:
            code, kind = message["code"], "heard"
            if code is None:
                code, kind = _GONE, "lost"
            if not rank_reports.error(code, message["message"], kind=kind):
                say(f"harness: error: {message['message']}; run the same command again")
            os._exit(1)
