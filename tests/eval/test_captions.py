"""The caption list of an evaluation: who is in it, and that it never depends on anything else."""

import json

import numpy as np
import pytest

from eval import captions
from harness.base.errors import DataError
from harness.data.preparation import pack
from tests import fixtures

SHAPES = {"moments_shape": (8, 8, 8), "context_shape": (4, 16)}


def test_each_image_once_with_one_caption(features):
    found = captions.choose(features, 20, 1, **SHAPES)
    assert sorted(found.pairs[:, 0]) == list(range(20))
    assert set(found.pairs[:, 1]) == {0, 1}


def test_a_shorter_list_is_the_beginning_of_a_longer_one(features):
    long = captions.choose(features, 50, 1, **SHAPES)
    for n in (1, 7, 20, 33):
        short = captions.choose(features, n, 1, **SHAPES)
        np.testing.assert_array_equal(short.pairs, long.pairs[:n])
    assert len(long) == 50 and sorted(long.pairs[20:40, 0]) == list(range(20))


def test_the_seed_and_nothing_else_decides(features):
    one, again, other = (captions.choose(features, 20, seed, **SHAPES) for seed in (1, 1, 2))
    assert one.digest() == again.digest() != other.digest()


def test_contexts_are_those_of_the_pairs(features):
    found = captions.choose(features, 9, 3, **SHAPES)
    expected = [np.load(features / "val" / f"{i}_{k}.npy") for i, k in found.pairs[2:6]]
    np.testing.assert_array_equal(found.contexts(2, 6), np.stack(expected))


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rounded_contexts_are_another_protocol(features, tmp_path, dtype):
    pack.pack(features, tmp_path / "packed", context_dtype=dtype)
    plain, packed = (
        captions.choose(data, 9, 3, **SHAPES) for data in (features, tmp_path / "packed")
    )
    same = np.array_equal(plain.contexts(0, 9), packed.contexts(0, 9))
    assert (plain.describe() == packed.describe()) == same == (dtype == "float32")


def test_labels_and_texts_come_from_captions_jsonl(tmp_path):
    data = fixtures.write_features(tmp_path / "d", images=5)
    assert captions.choose(data, 5, 1, **SHAPES).labels is None
    lines = [
        json.dumps({"image": i, "caption": k, "text": f"t{i}{k}", "label": i})
        for i in range(5) for k in range(2)
    ]
    path = data / "val" / "captions.jsonl"
    path.write_text("\n".join(lines) + "\n")
    found = captions.choose(data, 8, 1, **SHAPES)
    np.testing.assert_array_equal(found.labels, found.pairs[:, 0])
    assert found.texts == [f"t{i}{k}" for i, k in found.pairs]

    path.write_text("\n".join(lines[:3]) + "\n")
    with pytest.raises(DataError, match="does not say caption"):
        captions.choose(data, 8, 1, **SHAPES)
    path.write_text("{]\n")
    with pytest.raises(DataError, match="line 1"):
        captions.choose(data, 8, 1, **SHAPES)
