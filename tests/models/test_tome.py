"""Token merging: what is merged, what never is, and that 0 changes nothing."""

import numpy as np
import paddle
import pytest

from baselines.torch_peer import TINY, batch, lively_weights
from models import weights
from models.tome import TokenMerging
from models.uvit import UViT

SECTION = {**TINY, "sample_size": 16}  # 8 x 8 image tokens


@pytest.fixture(scope="module")
def model():
    model = UViT(**SECTION)
    weights.load_official(model, lively_weights(model))
    model.eval()
    return model


@pytest.fixture(autouse=True)
def unmerged(model):
    yield
    model.remove_tome()


def _run(model, size=2):
    inputs = batch(SECTION)
    x, n, context = (paddle.to_tensor(inputs[k][:size]) for k in ("x", "timesteps", "context"))
    with paddle.no_grad():
        return model(x, n, encoder_hidden_states=context).sample.numpy()


def _tokens(count=2, side=8, extras=6, width=16, seed=0):
    random = np.random.default_rng(seed)
    return random.standard_normal((count, extras + side * side, width)).astype(np.float32)


def test_ratio_0_gives_the_same_bits_as_none(model):
    plain = _run(model)
    model.apply_tome(0.0, merge_mlp=True)
    assert np.array_equal(_run(model), plain)
    model.apply_tome(0.5)
    merged = _run(model)
    assert not np.array_equal(merged, plain)
    model.remove_tome()
    assert np.array_equal(_run(model), plain)


def test_merged_runs_repeat_to_the_bit(model):
    first = _run(model.apply_tome(0.5, merge_mlp=True))
    model.remove_tome()
    assert np.array_equal(_run(model.apply_tome(0.5, merge_mlp=True)), first)


def test_samples_of_a_batch_do_not_see_each_other(model):
    model.apply_tome(0.5, merge_mlp=True)
    np.testing.assert_allclose(_run(model, 3)[:2], _run(model, 2), atol=1e-5)


@pytest.mark.parametrize("ratio", [0.25, 0.5, 0.75])
def test_as_many_tokens_go_as_asked_and_all_come_back(ratio):
    x = paddle.to_tensor(_tokens())
    merging = TokenMerging(8, 6, ratio).match(x)
    merged = merging.merge(x)
    assert merged.shape == [2, 6 + 64 - int(64 * ratio), 16]
    assert merging.unmerge(merged).shape == x.shape


def test_against_a_slow_reference():
    """Means and homes by loops, from the definition: each source to its most alike destination."""
    x = _tokens(count=2, side=4, seed=3)
    tome = TokenMerging(4, 6, 0.5, number=2)
    merging = tome.match(paddle.to_tensor(x))
    result = merging.unmerge(merging.merge(paddle.to_tensor(x))).numpy()
    destinations = tome.destinations
    for tokens, found in zip(x, result, strict=True):
        image = tokens[6:].astype(np.float64)
        unit = image / np.linalg.norm(image, axis=1, keepdims=True)
        sources = [i for i in range(16) if i not in destinations]
        nearest = {s: max(destinations, key=lambda d: unit[s] @ unit[d]) for s in sources}
        likeness = {s: unit[s] @ unit[nearest[s]] for s in sources}
        gone = sorted(sources, key=lambda s: -likeness[s])[:8]
        want = image.copy()
        for d in destinations:
            group = [d, *(s for s in gone if nearest[s] == d)]
            want[group] = image[group].mean(axis=0)
        np.testing.assert_allclose(found[6:], want, atol=1e-5)
        assert np.array_equal(found[:6], tokens[:6])


def test_time_and_text_tokens_pass_untouched():
    x = paddle.to_tensor(_tokens(seed=1))
    merging = TokenMerging(8, 6, 0.75).match(x)
    merged = merging.merge(x)
    assert np.array_equal(merged[:, :6].numpy(), x[:, :6].numpy())
    assert np.array_equal(merging.unmerge(merged)[:, :6].numpy(), x[:, :6].numpy())


def test_equal_tokens_merge_without_loss(model):
    """Where all image tokens of a cell are alike, merging leaves a branch's result as it is."""
    x = paddle.to_tensor(np.repeat(_tokens(side=1, width=32), [1] * 6 + [64], axis=1))
    block = model.in_blocks[0]
    plain = block.feed(x).numpy()
    model.apply_tome(0.5, merge_attn=False, merge_mlp=True)
    merged = block.feed(x, model.tome[0].match(x)).numpy()
    np.testing.assert_allclose(merged, plain, atol=1e-4)


def test_each_branch_merges_only_if_asked(model):
    plain = _run(model)
    attention, mlp = _run(model.apply_tome(0.5)), _run(model.apply_tome(0.5, False, True))
    both = _run(model.apply_tome(0.5, True, True))
    neither = _run(model.apply_tome(0.5, False, False))
    assert np.array_equal(neither, plain)
    assert len({a.tobytes() for a in (plain, attention, mlp, both)}) == 4


def test_blocks_choose_different_destinations_and_every_process_the_same():
    chosen = [TokenMerging(8, 6, 0.5, number=n).destinations for n in (0, 1)]
    assert not np.array_equal(*chosen)
    cells = {(d // 8 // 2, d % 8 // 2) for d in chosen[0]}
    assert len(cells) == 16  # one in each 2x2
    assert np.array_equal(chosen[0], TokenMerging(8, 6, 0.5, number=0).destinations)


@pytest.mark.parametrize("side", [2, 3, 5])
def test_odd_sides(side):
    x = paddle.to_tensor(_tokens(side=side))
    merging = TokenMerging(side, 6, 0.5).match(x)
    assert merging.unmerge(merging.merge(x)).shape == x.shape


@pytest.mark.parametrize("ratio", [-0.1, 0.76, 1.0, float("nan")])
def test_impossible_ratios(model, ratio):
    with pytest.raises(ValueError, match="ratio"):
        model.apply_tome(ratio)


def test_gradients_flow(model):
    model.apply_tome(0.5, merge_mlp=True)
    inputs = batch(SECTION, 1)
    x, n, context = (paddle.to_tensor(inputs[k]) for k in ("x", "timesteps", "context"))
    model(x, n, encoder_hidden_states=context).sample.sum().backward()
    grads = {name: p.grad for name, p in model.named_parameters()}
    model.clear_gradients()
    assert all(g is not None and bool(paddle.isfinite(g).all()) for g in grads.values())
