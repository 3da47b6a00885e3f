"""Weights under the official names: round trips and refusals."""

import numpy as np
import paddle
import pytest

from baselines.torch_peer import TINY, lively_weights
from harness.base.errors import DataError
from models import weights
from models.uvit import UViT


def test_round_trip_keeps_every_bit():
    model = UViT(**TINY)
    arrays = lively_weights(model)
    weights.load_official(model, arrays)
    again = weights.to_official(model)
    assert list(again) == list(dict(model.named_parameters()))
    assert all(np.array_equal(arrays[n], again[n]) for n in arrays)


def test_layouts_are_those_of_torch():
    arrays = weights.to_official(UViT(**TINY))
    assert arrays["in_blocks.0.attn.qkv.weight"].shape == (96, 32)
    assert arrays["out_blocks.1.skip_linear.weight"].shape == (32, 64)
    assert arrays["patch_embed.proj.weight"].shape == (32, 4, 2, 2)
    assert arrays["pos_embed"].shape == (1, 1 + 5 + 16, 32)


def test_half_precision_arrays_are_taken():
    model = UViT(**TINY)
    arrays = {n: a.astype(np.float16) for n, a in lively_weights(model).items()}
    weights.load_official(model, arrays)
    assert np.array_equal(model.pos_embed.numpy(), arrays["pos_embed"].astype(np.float32))


def test_everything_that_does_not_fit_is_listed_and_nothing_changes():
    model = UViT(**TINY)
    before = weights.to_official(model)
    arrays = lively_weights(model)
    del arrays["norm.weight"], arrays["mid_block.attn.qkv.weight"]
    arrays["time_embed.0.weight"] = np.zeros((2, 2), np.float32)
    arrays["pos_embed"] = arrays["pos_embed"][:, :-1]
    # the transpose of a Linear weight has the right number of elements all the same
    arrays["mid_block.mlp.fc1.weight"] = arrays["mid_block.mlp.fc1.weight"].T
    arrays["norm.bias"] = arrays["norm.bias"].astype(np.int64)
    arrays["decoder_pred.bias"] = arrays["decoder_pred.bias"] * np.nan
    arrays["final_layer.bias"] = paddle.to_tensor(arrays["final_layer.bias"])
    with pytest.raises(DataError) as error:
        weights.load_official(model, arrays, where="uvit.pth")
    for words in (
        "uvit.pth",
        "missing norm.weight",
        "missing mid_block.attn.qkv.weight",
        "unexpected time_embed.0.weight",
        "pos_embed has shape [1, 21, 32], not [1, 22, 32]",
        "mid_block.mlp.fc1.weight has shape [32, 128], not [128, 32]",
        "norm.bias has dtype int64",
        "decoder_pred.bias holds values that are not finite",
        "final_layer.bias is a Tensor",
    ):
        assert words in str(error.value)
    after = weights.to_official(model)
    assert all(np.array_equal(before[n], after[n]) for n in before)
