"""The frozen text encoder: any text tokenises, digits are told apart, bad folders are refused."""

import json
import shutil

import numpy as np
import pytest
from safetensors.numpy import load_file

from harness.base.errors import DataError, EnvironmentFault
from harness.digits import dataset, pictures
from models.pretrained import text_encoder


@pytest.fixture(scope="module")
def encoder():
    return text_encoder.load(dataset.ASSETS / "text_encoder")


@pytest.fixture
def copy(tmp_path):
    shutil.copytree(dataset.ASSETS / "tokenizer", tmp_path / "tokenizer")
    return shutil.copytree(dataset.ASSETS / "text_encoder", tmp_path / "text_encoder")


def test_context_is_paddlenlps_own_last_hidden_state(encoder):
    import paddle
    from paddlenlp.transformers import CLIPTextModel, CLIPTokenizer

    texts = ["a handwritten seven", ""]
    context = encoder.encode(texts)
    assert context.shape == (2, 12, 64) and context.dtype == np.float32
    tokenizer = CLIPTokenizer.from_pretrained(str(dataset.ASSETS / "tokenizer"))
    model = CLIPTextModel.from_pretrained(str(dataset.ASSETS / "text_encoder"))
    model.eval()
    ids = tokenizer(texts, padding="max_length", truncation=True, max_length=12)["input_ids"]
    with paddle.no_grad():
        expected = model(input_ids=paddle.to_tensor(ids)).last_hidden_state.numpy()
    np.testing.assert_allclose(context, expected, atol=1e-6)


def test_every_word_of_a_caption_is_one_token_and_any_text_tokenises(encoder):
    for digit in range(10):
        for text in pictures.captions_of(digit):
            tokens = encoder.tokens([text])[0]
            words = np.count_nonzero(tokens[1:] != tokens[-1])
            assert words == len(text.split()) and not encoder.is_cut(text)
    texts = ["", "Überraschung 七 \U0001f600", "SEVEN", "seven", "\x00\t\n", "x" * 500]
    odd = encoder.tokens(texts)
    assert odd.shape == (6, 12) and odd.dtype == np.int64
    assert odd.max() < 900 and odd.min() >= 0
    np.testing.assert_array_equal(odd[2], odd[3])
    assert encoder.is_cut("x" * 500) and encoder.is_cut("seven " * 11)
    assert not encoder.is_cut("seven " * 10)


def test_contexts_of_two_digits_are_told_apart_by_a_line(encoder):
    """Nearest mean of the mean token, on wordings that were not used for the means."""
    rows = np.stack([
        encoder.encode(pictures.captions_of(digit)).mean(1) for digit in range(10)
    ])
    centres = rows[:, ::2].mean(1)
    distance = ((rows[:, 1::2, None] - centres) ** 2).sum(-1)
    assert (distance.argmin(-1) == np.arange(10)[:, None]).mean() > 0.95


def test_context_does_not_depend_on_the_company(encoder):
    texts = pictures.captions_of(3)
    together = encoder.encode(texts * 8)
    assert together.shape[0] == 80
    np.testing.assert_allclose(encoder.encode(texts[4:5])[0], together[4], atol=1e-5)
    assert encoder.encode([]).shape == (0, 12, 64)


def test_max_length_is_what_was_asked_for(copy):
    encoder = text_encoder.load(copy, max_length=5)
    assert encoder.encode(["the digit 7"]).shape == (1, 5, 64)
    assert encoder.is_cut("the digit 7 there")
    for bad in (1, 13, -1):
        with pytest.raises(DataError, match="room for 2 to 12"):
            text_encoder.load(copy, max_length=bad)


def test_a_pdparams_folder_of_a_whole_clip_model_is_read(copy, encoder):
    import paddle

    arrays = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    whole = arrays | {"vision_model.class_embedding": np.zeros(4, np.float32)}
    tensors = {name: paddle.to_tensor(array) for name, array in whole.items()}
    paddle.save(tensors, str(copy / "model_state.pdparams"))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({"model_type": "clip", "text_config": config}))
    texts = ["a scan of the digit two"]
    np.testing.assert_array_equal(text_encoder.load(copy).encode(texts), encoder.encode(texts))


def test_what_is_missing_is_named(copy, tmp_path):
    with pytest.raises(EnvironmentFault, match="no text encoder at"):
        text_encoder.load(tmp_path / "nowhere")
    with pytest.raises(EnvironmentFault, match="no tokenizer at"):
        text_encoder.load(copy, tmp_path / "nowhere")
    (tmp_path / "tokenizer" / "merges.txt").unlink()
    with pytest.raises(EnvironmentFault, match=r"no merges\.txt in"):
        text_encoder.load(copy)


@pytest.mark.parametrize(
    "vocabulary",
    ["[]", "{}", '{"a": "0"}', '{"a": true}', '{"<|startoftext|>": 0, "<|endoftext|>": 10000000}',
     '{"a": 0, "b": 1}', "not json"],
)
def test_a_bad_vocabulary_is_refused(copy, tmp_path, vocabulary):
    (tmp_path / "tokenizer" / "vocab.json").write_text(vocabulary)
    with pytest.raises(DataError, match=r"vocab\.json"):
        text_encoder.load(copy)


def test_a_tokenizer_of_another_model_is_refused(copy, tmp_path):
    path = tmp_path / "tokenizer" / "vocab.json"
    vocabulary = json.loads(path.read_text())
    path.write_text(json.dumps(vocabulary | {"more": len(vocabulary)}))
    with pytest.raises(DataError, match="tokenizer that belongs to it"):
        text_encoder.load(copy)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("hidden_size", 10**8, "hidden_size"),
        ("num_attention_heads", 7, "describes no text encoder|does not fit"),
        ("hidden_size", 32, "does not fit"),
        ("hidden_act", "__import__", "hidden_act"),
        ("num_hidden_layers", 3, "lacks"),
        ("text_config", "x", "text_config"),
    ],
)
def test_a_bad_config_is_refused(copy, key, value, complaint):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {key: value}))
    with pytest.raises(DataError, match=complaint):
        text_encoder.load(copy)
