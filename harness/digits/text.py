"""Make the digits' tokenizer and text encoder (`python -m harness.digits.make_assets text`).

A CLIPTokenizer whose merges make one token of every word of the captions and
which spells any other text in bytes, and a small CLIPTextModel, trained for a
moment to say the digit after the caption's end, whatever the wording: contexts of
one digit lie close, those of two digits far apart.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from harness import files
from harness.base import seeds
from harness.digits import pictures

MAX_LENGTH = 12
WIDTH = 64
STEPS = 300
BATCH = 128
# The contexts' scale. A new U-ViT hardly sees contexts of unit scale beside the
# image, and a demo of a thousand steps cannot wait until it does.
GAIN = 3.0
# Words that prompts are likely to use beside the captions' own.
MORE_WORDS = (
    "an and is it this that in on with nice big small bold thin black white ink pen pencil paper "
    "image photograph picture sample style writing someone wrote writes figure sign of to please"
).split()
START, END = "<|startoftext|>", "<|endoftext|>"


def words() -> list[str]:
    texts = [text for digit in range(10) for text in pictures.captions_of(digit)]
    return sorted({word for text in texts for word in text.split()} | set(MORE_WORDS))


def merges(vocabulary: list[str]) -> list[tuple[str, str]]:
    """Byte-pair encoding (Sennrich et al. 2016) run until every word is one token."""
    spelt = [[*word[:-1], word[-1] + "</w>"] for word in vocabulary]
    found: list[Any] = []
    while True:
        pairs = Counter(pair for word in spelt for pair in pairwise(word))
        if not pairs:
            return found
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
        found.append(pair)
        spelt = [_merge(word, pair) for word in spelt]


def _merge(word: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for part in word:
        if out and (out[-1], part) == pair:
            out[-1] += part
        else:
            out.append(part)
    return out


def write_tokenizer(folder: Path) -> int:
    """Write vocab.json, merges.txt and the settings; returns the number of tokens."""
    from paddlenlp.transformers.clip.tokenizer import bytes_to_unicode

    letters = sorted(bytes_to_unicode().values())
    pairs = merges(words())
    # two words may share a merged piece, which is still one token
    tokens = dict.fromkeys([*letters, *(x + "</w>" for x in letters), *map("".join, pairs)])
    vocabulary = {token: k for k, token in enumerate([*tokens, START, END])}
    lines = ["#version: 0.2", *(" ".join(pair) for pair in pairs)]
    text = json.dumps(vocabulary, ensure_ascii=True, indent=0)
    files.atomic_write_bytes(folder / "vocab.json", (text + "\n").encode())
    files.atomic_write_bytes(folder / "merges.txt", ("\n".join(lines) + "\n").encode())
    settings = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    files.atomic_write_json(folder / "special_tokens_map.json", settings)
    described = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_LENGTH, **settings}
    files.atomic_write_json(folder / "tokenizer_config.json", described)
    return len(vocabulary)


def config(tokens: int) -> dict[str, object]:
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": tokens,
        "hidden_size": WIDTH,
        "intermediate_size": 2 * WIDTH,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": MAX_LENGTH,
        "hidden_act": "quick_gelu",
        "bos_token_id": tokens - 2,
        "eos_token_id": tokens - 1,
        "pad_token_id": tokens - 1,
    }


def initialise(model, rng: np.random.Generator) -> None:
    """numpy's random numbers in place of paddle's: the same weights on every machine."""
    for name, value in model.state_dict().items():
        if value.ndim == 2:
            std = 0.5 if "embedding" in name else value.shape[0] ** -0.5
            std *= 0.4 if "positional" in name else 1.0
            value.set_value(rng.normal(0, std, value.shape).astype(np.float32))


def prompts(rng: np.random.Generator, pool: list[str]) -> tuple[list[str], np.ndarray]:
    """A batch of captions, half of them with other words strewn in: texts, digits."""
    digits = rng.integers(10, size=BATCH)
    texts = []
    for digit in digits:
        wordings = pictures.captions_of(int(digit))
        parts = wordings[int(rng.integers(len(wordings)))].split()
        for _ in range(int(rng.integers(0, 4)) * int(rng.integers(0, 2))):
            parts.insert(int(rng.integers(len(parts) + 1)), pool[int(rng.integers(len(pool)))])
        texts.append(" ".join(parts))
    return texts, digits


def codes() -> np.ndarray:
    """Ten orthogonal directions of entries +-1, float32 [10,WIDTH]: rows of a Hadamard matrix."""
    from scipy.linalg import hadamard

    return hadamard(WIDTH)[1:11].astype(np.float32)


def train(encoder, rng: np.random.Generator, log: Callable[[str], None]) -> None:
    """Fit `encoder` (a models.pretrained.text_encoder.TextEncoder): a caption gives its code."""
    import paddle

    model, targets = encoder.model, codes()
    for parameter in model.parameters():
        parameter.stop_gradient = False
    rate = paddle.optimizer.lr.CosineAnnealingDecay(3e-3, STEPS)
    optimizer = paddle.optimizer.AdamW(rate, parameters=model.parameters(), weight_decay=1e-2)
    pool = [word for word in words() if word not in pictures.WORDS and not word.isdigit()]
    for step in range(STEPS):
        texts, digits = prompts(rng, pool)
        tokens = encoder.tokens(texts)
        # the end token and the padding after it, which is the same token
        ended = paddle.to_tensor((tokens == tokens.max()).astype(np.float32))
        hidden = model(input_ids=paddle.to_tensor(tokens)).last_hidden_state
        wanted = paddle.to_tensor(targets[digits][:, None])
        loss = ((hidden - wanted).square().mean(-1) * ended).sum() / ended.sum()
        loss.backward()
        optimizer.step()
        optimizer.clear_grad()
        rate.step()
        if step % 50 == 49:
            log(f"text {step + 1}/{STEPS} loss {float(loss):.4f}")
    for parameter in (model.text_model.ln_final.weight, model.text_model.ln_final.bias):
        parameter.set_value(parameter.numpy() * GAIN)


def make(folder: Path, seed: int, log: Callable[[str], None]) -> None:
    """Write `text_encoder` and `tokenizer` under `folder`."""
    from paddlenlp.transformers import CLIPTextConfig, CLIPTextModel
    from safetensors.numpy import save

    from models.pretrained import text_encoder

    tokens = write_tokenizer(folder / "tokenizer")
    rng = seeds.generator(seed, "digits text encoder")
    settings = config(tokens)
    model = CLIPTextModel(CLIPTextConfig(**settings))
    initialise(model, rng)
    words_of = text_encoder.load_tokenizer(folder / "tokenizer")
    encoder = text_encoder.TextEncoder(model, words_of, MAX_LENGTH)
    train(encoder, rng, log)
    arrays = {name: value.numpy() for name, value in model.state_dict().items()}
    # paddlenlp reads no safetensors but those that say "np"
    files.atomic_write_bytes(
        folder / "text_encoder" / "model.safetensors", save(arrays, metadata={"format": "np"})
    )
    files.atomic_write_json(folder / "text_encoder" / "config.json", settings)
