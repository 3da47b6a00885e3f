import numpy as np
import paddle
import pytest

from harness.base.errors import DataError
from harness.configs.schema import Optim
from harness.training.learning_rate import learning_rate
from harness.training.optimizer import AdamW, clip_by_global_norm
from models.cpu import row_threads
from models.ema import EMA


def adamw_float64(weights, gradients, o, steps):
    """AdamW by its paper (Loshchilov & Hutter 2019, algorithm 2), float64."""
    w = weights.astype(np.float64)
    m, v = np.zeros_like(w), np.zeros_like(w)
    for t, g in enumerate(gradients[:steps], 1):
        m = o.beta1 * m + (1 - o.beta1) * g
        v = o.beta2 * v + (1 - o.beta2) * g**2
        m_hat, v_hat = m / (1 - o.beta1**t), v / (1 - o.beta2**t)
        w = w * (1 - o.lr * o.weight_decay) - o.lr * m_hat / (np.sqrt(v_hat) + o.eps)
    return w


@pytest.mark.parametrize("kernel", ["of models.cpu.kernels", "of paddle"])
def test_apply_is_adamw(monkeypatch, kernel):
    if kernel == "of paddle":
        monkeypatch.setattr(row_threads, "tuned", lambda tensor: False)
    random = np.random.default_rng(0)
    weights = random.standard_normal((7, 5)).astype(np.float32)
    gradients = [random.standard_normal((7, 5)).astype(np.float32) for _ in range(20)]
    optim = Optim(lr=1e-2, warmup_steps=0)
    parameter = paddle.to_tensor(weights, stop_gradient=False)
    adamw = AdamW({"w": parameter}, optim)
    for step, gradient in enumerate(gradients, 1):
        adamw.apply({"w": paddle.to_tensor(gradient)}, step=step, lr=optim.lr)
    expected = adamw_float64(weights, gradients, optim, 20)
    assert np.abs(parameter.numpy() - expected).max() < 2e-6


@pytest.mark.parametrize("kernel", ["of models.cpu.kernels", "of paddle"])
def test_the_average_moves_after_the_weights(monkeypatch, kernel):
    if kernel == "of paddle":
        monkeypatch.setattr(row_threads, "tuned", lambda tensor: False)
    parameters = {"w": paddle.ones([300, 7]), "b": paddle.zeros([7])}
    gradients = {n: paddle.full(p.shape, 0.5) for n, p in parameters.items()}
    adamw, average, apart = AdamW(parameters, Optim()), EMA(parameters, 0.9), EMA(parameters, 0.9)
    for step in (1, 2):
        adamw.apply(gradients, step=step, lr=0.1, average=average)
        apart.update(parameters)
    found, expected = average.state(), apart.state()
    assert all((found[n] == expected[n]).all() for n in expected)
    assert not (found["w"] == parameters["w"].numpy()).any()


def test_a_loaded_state_goes_on_to_the_same_bits():
    random = np.random.default_rng(1)
    weights = random.standard_normal(33).astype(np.float32)
    gradients = [random.standard_normal(33).astype(np.float32) for _ in range(6)]

    def run(parameter, adamw, steps):
        for step in steps:
            adamw.apply({"w": paddle.to_tensor(gradients[step - 1])}, step=step, lr=1e-2)
        return parameter.numpy().copy()

    whole = paddle.to_tensor(weights)
    expected = run(whole, AdamW({"w": whole}, Optim()), range(1, 7))
    first = paddle.to_tensor(weights)
    before = AdamW({"w": first}, Optim())
    middle = run(first, before, range(1, 4))
    paddle.nn.Linear(3, 3)  # shifts paddle's name counter, which must not matter
    second = paddle.to_tensor(np.zeros(33, np.float32))
    after = AdamW({"w": second}, Optim())
    after.load(before.state())
    after.load_weights({"w": middle})
    assert run(second, after, range(4, 7)).tobytes() == expected.tobytes()


def test_a_state_that_does_not_fit_is_refused():
    adamw = AdamW({"w": paddle.zeros([3])}, Optim())
    state = adamw.state()
    with pytest.raises(DataError, match=r"moment1\.v"):
        adamw.load({**state, "moment1.v": np.zeros(3, np.float32)})
    with pytest.raises(DataError, match="shape or dtype"):
        adamw.load({**state, "moment1.w": np.zeros(4, np.float32)})
    with pytest.raises(DataError):
        adamw.load({})
    with pytest.raises(DataError, match="expected"):
        adamw.load_weights({"w": np.zeros(4, np.float32)})


def test_learning_rate_warms_up_and_stays():
    optim = Optim(lr=1.0, warmup_steps=10)
    assert [learning_rate(optim, s, 100) for s in (1, 5, 10, 11, 100)] == [0.1, 0.5, 1, 1, 1]
    assert learning_rate(Optim(lr=1.0, warmup_steps=0), 1, 100) == 1.0
    linear = Optim(lr=1.0, warmup_steps=0, schedule="linear")
    assert learning_rate(linear, 25, 100) == pytest.approx(0.75)
    cosine = Optim(lr=1.0, warmup_steps=0, schedule="cosine")
    assert learning_rate(cosine, 50, 100) == pytest.approx(0.5)
    assert learning_rate(cosine, 100, 100) == pytest.approx(0.0)


def test_clipping_scales_all_gradients_together():
    gradients = {"a": paddle.full([4], 3.0), "b": paddle.full([4], 4.0)}
    assert clip_by_global_norm(gradients, 1.0) == pytest.approx(10.0)
    joint = np.concatenate([g.numpy() for g in gradients.values()])
    assert np.linalg.norm(joint) == pytest.approx(1.0, rel=1e-5)
    assert clip_by_global_norm(gradients, 5.0) == pytest.approx(1.0, rel=1e-5)
    unchanged = np.concatenate([g.numpy() for g in gradients.values()])
    assert np.array_equal(joint, unchanged)
