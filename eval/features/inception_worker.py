"""The process that runs pytorch-fid's InceptionV3: the only module that imports torch.

Paddle and torch never share a process. Started by `eval.features.inception` as
`python -m eval.features.inception_worker WEIGHTS BATCH_SIZE`; it answers one JSON line on stdout
for each JSON line on stdin, and ends when stdin does, so it cannot outlive whoever started it for
long.

    {"images": "x.npy", "out": "f.npy"}                   uint8 [n, H, W, 3] -> float32 [n, 2048]
    {"files": [...], "preparation": "none", "out": ...}   image files
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from eval.features import image_files
from harness import files
from harness.base import paddle_env
from harness.base.errors import DataError, HarnessError

DIMS = 2048
DECODERS = max(1, min(8, len(os.sched_getaffinity(0))))


def load_network(weights: Path) -> tuple[Any, Any]:
    """pytorch-fid's InceptionV3 up to pool3 with `weights`, and its device.

    The weights are read by torch's restricted unpickler: a hostile file cannot run code.
    """
    import torch
    from pytorch_fid import inception

    def read(*_: Any, **__: Any) -> Any:
        return torch.load(weights, map_location="cpu", weights_only=True)

    inception.load_state_dict_from_url = read
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        network = inception.InceptionV3([inception.InceptionV3.BLOCK_INDEX_BY_DIM[DIMS]])
    except Exception as error:  # torch raises a dozen kinds for a bad file
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise DataError(
            f"{weights} does not hold the Inception weights: {reason}",
            remedy="`harness fetch inception` puts the right ones in place",
        ) from error
    network.eval()
    _fold_norms(network)
    # channels_last is 1.5 times as fast on a CPU; features change by 6e-7 of the largest.
    return network.to(device=device, memory_format=torch.channels_last), device


def _fold_norms(network: Any) -> None:
    """Put each BatchNorm's fixed scale and shift into the convolution before it, in place.

    94 passes over memory less: 1.1 times as fast on a CPU; features change by 5e-7 of the largest.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval
    from torchvision.models.inception import BasicConv2d

    for module in network.modules():
        if isinstance(module, BasicConv2d):
            module.conv = fuse_conv_bn_eval(module.conv, module.bn)
            module.bn = torch.nn.Identity()


class Extractor:
    """Features in batches of a pinned size: rows i*size.. of a request are one batch."""

    def __init__(self, weights: Path, batch_size: int):
        self.network, self.device = load_network(weights)
        self.batch_size = batch_size

    def batch(self, pixels: list[np.ndarray]) -> np.ndarray:
        """uint8 [H, W, 3] each -> float32 [n, 2048], with pytorch-fid's arithmetic."""
        import torch
        from torch.nn.functional import interpolate

        tensors = [torch.from_numpy(np.ascontiguousarray(p.transpose(2, 0, 1))) for p in pixels]
        if len({t.shape for t in tensors}) > 1:
            # The network resizes to 299 as its first step; images of several sizes do it before.
            small = [interpolate(_unit(t[None]), (299, 299), mode="bilinear") for t in tensors]
            batch = torch.cat(small)
        else:
            batch = _unit(torch.stack(tensors))
        batch = batch.to(self.device, memory_format=torch.channels_last)
        with torch.inference_mode():
            features = self.network(batch)[0]
        return features.flatten(1).float().cpu().numpy()

    def request(self, message: dict[str, Any]) -> dict[str, Any]:
        """Serve one request; the answer says how many images and seconds it took."""
        began = time.perf_counter()
        parts = [self.batch(pixels) for pixels in self._batches(message)]
        features = np.concatenate(parts) if parts else np.empty((0, DIMS), np.float32)
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
        with ThreadPoolExecutor(DECODERS, thread_name_prefix="image") as pool:

            def load(chunk: list[str]) -> list[np.ndarray]:
                return list(pool.map(lambda path: image_files.load(path, preparation), chunk))

            yield from _ahead(load, chunks)


def _unit(images: Any) -> Any:
    """uint8 -> float32 in [0, 1], as torchvision's ToTensor."""
    return images.float().div(255)


def _ahead(work: Callable[[Any], Any], items: list[Any]) -> Iterator[Any]:
    """work(item) for each item, the next one computed in a thread meanwhile."""
    with ThreadPoolExecutor(1, thread_name_prefix="decode") as pool:
        pending = deque(pool.submit(work, item) for item in items[:2])
        for item in [*items[2:], None, None][: len(items)]:
            yield pending.popleft().result()
            if item is not None:
                pending.append(pool.submit(work, item))


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
        served.append(Extractor(Path(sys.argv[1]), int(sys.argv[2])))
        import torch

        return {"ready": True, "device": served[0].device.type, "torch": torch.__version__}

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
