"""`python -m harness.doctor.probe_worker WHAT FOLDER`: one thing that Paddle is asked to do.

In a process of its own, because a Paddle that nobody knows may end it. FOLDER holds `in.npz` as
`baselines.torch_uvit` takes it; what comes out is written beside it as `WHAT.npz`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from harness.base import paddle_env


def network(folder: Path) -> dict[str, np.ndarray]:
    """`sample`, `loss` and `grad/NAME` in PyTorch's names and layouts."""
    import paddle

    from models import weights

    model, inputs = _model(folder)
    b = {name: paddle.to_tensor(array) for name, array in inputs.items()}
    sample = model(b["x"], b["timesteps"], encoder_hidden_states=b["context"]).sample
    loss = (sample - b["target"]).square().mean()
    loss.backward()
    found = {"sample": sample.numpy(), "loss": loss.numpy()}
    for name, parameter in model.named_parameters():
        gradient = parameter.grad
        parameter.set_value(gradient)  # so that its layout is changed as a weight's is
        found[f"grad/{name}"] = np.zeros(())
    gradients = weights.to_official(model)
    return found | {f"grad/{name}": array for name, array in gradients.items()}


def saving(folder: Path) -> dict[str, np.ndarray]:
    """The number of weights, and of those that paddle.save and paddle.load changed a bit of."""
    import paddle

    model, _ = _model(folder)
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    path = str(folder / "weights.pdparams")
    paddle.save(model.state_dict(), path)
    after = {name: np.asarray(value) for name, value in paddle.load(path).items()}
    changed = [n for n, v in before.items() if n not in after or not np.array_equal(after[n], v)]
    return {"weights": np.array(len(before)), "changed": np.array(len(changed))}


def _model(folder: Path) -> tuple[Any, dict[str, np.ndarray]]:
    from models import weights
    from models.uvit import UViT

    with np.load(folder / "in.npz") as file:
        arrays = dict(file)
    model = UViT(**json.loads(str(arrays.pop("model"))))
    names = [name for name in arrays if name.startswith("weight/")]
    weights.load_official(model, {n.removeprefix("weight/"): arrays.pop(n) for n in names})
    return model, arrays


if __name__ == "__main__":
    what, where = sys.argv[1], Path(sys.argv[2])
    paddle_env.require_paddle()
    np.savez(where / f"{what}.npz", **{"network": network, "saving": saving}[what](where))
