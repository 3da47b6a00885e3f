"""What other people's code says, asked in a process of its own: torch stays out of this one.

`python -m tests.eval.peer frechet IN.npz`   pytorch-fid's distances of 0_mu1, 0_sigma1, ...
`python -m tests.eval.peer kid IN.npz`       torch-fidelity's KID of features a, b as one subset
`python -m tests.eval.peer features IN.npz`  pytorch-fid's features of images, into features.npy
`python -m tests.eval.peer weights OUT.pth`  random Inception weights that give usable features
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[2]


def frechet(folder: Path, pairs: list) -> list[dict]:
    """pytorch-fid's Frechet distance of each pair of `Statistics`: {"value", "seconds"}."""
    arrays = {}
    for i, (a, b) in enumerate(pairs):
        arrays |= {f"{i}_mu1": a.mu, f"{i}_sigma1": a.sigma}
        arrays |= {f"{i}_mu2": b.mu, f"{i}_sigma2": b.sigma}
    np.savez(folder / "frechet.npz", **arrays)
    return _run("frechet", folder / "frechet.npz")


def kid(folder: Path, a: np.ndarray, b: np.ndarray) -> float:
    """torch-fidelity's KID of features a, b taken as one subset."""
    np.savez(folder / "kid.npz", a=a, b=b)
    return _run("kid", folder / "kid.npz")[0]["value"]


def features(folder: Path, images: np.ndarray, weights: Path) -> np.ndarray:
    """pytorch-fid's features [n, 2048] of images uint8 [n, H, W, 3], as one batch."""
    np.savez(folder / "images.npz", images=images, weights=str(weights))
    _run("features", folder / "images.npz")
    return np.load(folder / "features.npy")


def write_weights(path: Path) -> None:
    """Write random Inception weights to `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _run("weights", path)


def pytorch_fid(a: Path, b: Path, torch_home: Path) -> float:
    """What `python -m pytorch_fid A B` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "pytorch_fid", str(a), str(b), "--device", "cpu",
         "--num-workers", "0"],
        capture_output=True, text=True, timeout=500, check=True,
        env={**os.environ, "TORCH_HOME": str(torch_home)},
    )
    return float(done.stdout.rpartition("FID:")[2])


def _run(what: str, path: Path) -> list[dict]:
    done = subprocess.run(
        [sys.executable, "-m", "tests.eval.peer", what, str(path)], cwd=ROOT,
        capture_output=True, text=True, timeout=900, check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def _frechet(path: str) -> list[dict]:
    from pytorch_fid.fid_score import calculate_frechet_distance

    found = []
    with np.load(path) as f:
        for i in range(len(f.files) // 4):
            arrays = [f[f"{i}_{name}"] for name in ("mu1", "sigma1", "mu2", "sigma2")]
            began = time.perf_counter()
            value = calculate_frechet_distance(*arrays)
            found.append({"value": float(value), "seconds": time.perf_counter() - began})
    return found


def _kid(path: str) -> list[dict]:
    from torch_fidelity.metric_kid import polynomial_mmd

    with np.load(path) as f:
        return [{"value": float(polynomial_mmd(f["a"], f["b"], 3, None, 1))}]


def _features(path: str) -> list[dict]:
    import torch
    from pytorch_fid import inception

    with np.load(path) as f:
        images, weights = f["images"], str(f["weights"])
    inception.load_state_dict_from_url = lambda *_, **__: torch.load(weights, weights_only=True)
    network = inception.InceptionV3().eval()
    with torch.no_grad():
        found = network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)[0]
    np.save(Path(path).with_name("features.npy"), found[:, :, 0, 0].numpy())
    return []


def _weights(path: str) -> list[dict]:
    import torch
    from pytorch_fid import inception

    torch.manual_seed(0)
    # The network is built and its untrained state dict taken in place of the file's.
    plain = inception.load_state_dict_from_url
    network = None

    def capture(*_, **__):
        raise _Built

    class _Built(Exception):
        pass

    inception.load_state_dict_from_url = capture
    kept = inception.torchvision.models.inception_v3

    def build(*args, **kwargs):
        nonlocal network
        network = kept(*args, **kwargs)
        return network

    inception.torchvision.models.inception_v3 = build
    try:
        inception.fid_inception_v3()
    except _Built:
        pass
    finally:
        inception.load_state_dict_from_url = plain
    for layer in network.modules():
        if isinstance(layer, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")
        if isinstance(layer, torch.nn.BatchNorm2d):  # as fresh ones are, they would do nothing
            layer.weight.data.uniform_(0.5, 1.5)
            layer.running_var.uniform_(0.5, 2.0)
            for shift in (layer.bias.data, layer.running_mean):
                shift.normal_(0.0, 0.2)
    torch.save(network.state_dict(), path)
    return []


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked, argument = sys.argv[1:]
    work = {"frechet": _frechet, "kid": _kid, "features": _features, "weights": _weights}
    print(json.dumps(work[asked](argument)))
