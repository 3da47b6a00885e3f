"""The process that runs a feature network by torch.

Paddle and torch never share a process. Started by `eval.features.torch_process` as
`python -m eval.features.torch_worker NETWORK WEIGHTS BATCH_SIZE`; it answers one JSON line on
stdout for each JSON line on stdin, and ends when stdin does, so it cannot outlive whoever started
it for long.

    {"images": "x.npy", "out": "f.npy"}                   uint8 [n, H, W, 3] -> float32 [n, size]
    {"files": [...], "preparation": "none", "out": ...}   image files
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eval.features import image_files
from harness import files
from harness.base import paddle_env
from harness.base.ahead import ahead
from harness.base.errors import DataError, HarnessError


def load(name: str, weights: Path) -> Any:
    """The network `name` with `weights`: `size`, `device`, and `features` of uint8 images."""
    if name == "inception":
        from eval.features.inception_network import Inception

        return Inception(weights)
    from eval.features.transformer_network import Transformer

    return Transformer(name, weights)


class Extractor:
    """Features in batches of a pinned size: rows i*size.. of a request are one batch."""

    def __init__(self, name: str, weights: Path, batch_size: int):
        import torch

        torch.backends.cudnn.deterministic = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.network = load(name, weights)
        self.batch_size = batch_size

    def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Serve one request; the answer says how many images and seconds it took."""
        began = time.perf_counter()
        parts = [self.network.features(pixels) for pixels in self._batches(message)]
        features = np.concatenate(parts) if parts else np.empty((0, self.network.size), np.float32)
        if not np.isfinite(features).all():
            raise DataError("the feature network gave NaN or infinity")
        with files.atomic_path(message["out"]) as temporary, open(temporary, "wb") as file:
            np.save(file, features)
        return {"count": len(features), "seconds": time.perf_counter() - began}

    def _batches(self, message: dict[str, Any]) -> Iterator[list[np.ndarray]]:
        size = self.batch_size
        if "images" in message:
            pixels = files.load_npy(message["images"], dtype="uint8")
            for first in range(0, len(pixels), size):
                yield list(pixels[first : first + size])
            return
        paths, preparation = message["files"], message["preparation"]
        chunks = [paths[first : first + size] for first in range(0, len(paths), size)]
        # Decoding lets go of the interpreter's lock: on a GPU one thread would be the slowest part.
        with ThreadPoolExecutor(image_files.DECODERS, thread_name_prefix="image") as pool:

            def load(chunk: list[str]) -> list[np.ndarray]:
                return list(pool.map(lambda path: image_files.load(path, preparation), chunk))

            yield from ahead(load, chunks, most=1)


def _answer(serve: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return serve()
    except HarnessError as error:
        return {"error": error.message, "remedy": error.remedy, "code": error.exit_code}


def main() -> None:
    """Serve requests until stdin ends."""
    out = sys.stdout
    sys.stdout = sys.stderr  # nothing that a library prints may get between the answers
    paddle_env.keep_freed_memory()
    served: list[Extractor] = []

    def start() -> dict[str, Any]:
        served.append(Extractor(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))
        import torch

        return {"ready": True, "device": served[0].network.device.type, "torch": torch.__version__}

    def say(answer: dict[str, Any]) -> None:
        out.write(json.dumps(answer) + "\n")
        out.flush()

    say(_answer(start))
    if not served:
        return
    for line in sys.stdin:
        message = json.loads(line)
        say(_answer(partial(served[0].request, message)))


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        raise SystemExit(1) from None
