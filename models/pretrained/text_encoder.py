"""The frozen text encoder: captions to context (paddlenlp's CLIPTextModel and CLIPTokenizer)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from harness import files
from harness.base.errors import DataError, EnvironmentFault
from models.pretrained import model_folder

if TYPE_CHECKING:
    import paddle

_BATCH = 64


class TextEncoder:
    """`max_length` T tokens, special ones included; `hidden_size` D."""

    def __init__(self, model: paddle.nn.Layer, tokenizer: Any, max_length: int):
        self.model = model
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.hidden_size: int = model.config.hidden_size

    def tokens(self, texts: Sequence[str]) -> np.ndarray:
        """int64 [B,T]: start, words, end; cut or padded to T."""
        if not len(texts):
            return np.zeros((0, self.max_length), np.int64)
        batch = self.tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=self.max_length
        )
        return np.asarray(batch["input_ids"], dtype=np.int64).reshape(-1, self.max_length)

    def is_cut(self, text: str) -> bool:
        """Whether `text` has more tokens than fit, so that its end is not seen."""
        return len(self.tokenizer(text)["input_ids"]) > self.max_length

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        """Last hidden state of each text: float32 [B,T,D].

        No attention mask, as in U-ViT's and PaddleMIX's extraction: the mask is
        causal, and the padding is part of what the model was trained on.
        """
        import paddle

        tokens = self.tokens(texts)
        parts = [np.zeros((0, self.max_length, self.hidden_size), np.float32)]
        with paddle.no_grad():
            for start in range(0, len(tokens), _BATCH):
                block = paddle.to_tensor(tokens[start : start + _BATCH])
                parts.append(self.model(input_ids=block).last_hidden_state.numpy())
        return np.concatenate(parts)


def load(
    folder: Path | str, tokenizer: Path | str | None = None, *, max_length: int | None = None
) -> TextEncoder:
    """Read a paddlenlp CLIP folder and its tokenizer's (vocab.json, merges.txt).

    `tokenizer`: default the folder itself if it holds a vocab.json, else the
    folder `tokenizer` beside it. `max_length`: default what the model has room for.
    EnvironmentFault if a folder or the weights are missing, DataError if a file
    is broken, hostile, or does not fit the others.
    """
    folder = model_folder.require(folder, "text encoder")
    if tokenizer is None:
        tokenizer = folder if (folder / "vocab.json").exists() else folder.parent / "tokenizer"
    words = load_tokenizer(tokenizer)
    options = _options(model_folder.read_config(folder), folder)
    arrays = model_folder.read_weights(folder)
    if len(words.encoder) > options["vocab_size"]:
        raise DataError(
            f"the tokenizer knows {len(words.encoder)} tokens, the text encoder in {folder} "
            f"only {options['vocab_size']}",
            remedy="name the tokenizer that belongs to it",
        )
    room = options["max_position_embeddings"]
    if max_length is not None and not 2 <= max_length <= room:
        raise DataError(f"max_length {max_length}: the text encoder has room for 2 to {room}")
    from paddlenlp.transformers import CLIPTextConfig, CLIPTextModel

    try:
        model = CLIPTextModel(CLIPTextConfig(**options))
    except Exception as error:  # whatever paddlenlp raises, the config asked for it
        raise DataError(f"{folder / 'config.json'} describes no text encoder: {error}") from error
    model_folder.assign(model, arrays, folder)
    model.eval()
    for parameter in model.parameters():
        parameter.stop_gradient = True
    return TextEncoder(model, words, max_length or room)


def _options(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """CLIPTextConfig's arguments out of config.json (a whole CLIP model's as well), checked."""
    nested = config.get("text_config") or config
    if not isinstance(nested, dict):
        raise DataError(f"{folder / 'config.json'}: text_config is not an object")
    limits = {
        "vocab_size": (49408, 1 << 20), "hidden_size": (512, 4096),
        "intermediate_size": (2048, 16384), "num_hidden_layers": (12, 64),
        "num_attention_heads": (8, 64), "max_position_embeddings": (77, 4096),
    }
    options: dict[str, Any] = {
        key: model_folder.integer(nested, key, default, most, folder)
        for key, (default, most) in limits.items()
    }
    activation = nested.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise DataError(f"{folder / 'config.json'}: hidden_act is neither quick_gelu nor gelu")
    # only the pooled output needs the end token, and nothing here reads that
    return options | {"hidden_act": activation, "eos_token_id": 2}


def load_tokenizer(folder: Path | str) -> Any:
    """Read a CLIPTokenizer's folder; errors as in `load`."""
    place = model_folder.require(folder, "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        if not (place / name).is_file():
            remedy = "put the tokenizer's files there"
            raise EnvironmentFault(f"no {name} in {place}", remedy=remedy)
    vocabulary = files.read_json(place / "vocab.json")
    if not isinstance(vocabulary, dict) or not all(
        isinstance(word, str) and type(index) is int and index >= 0
        for word, index in vocabulary.items()
    ):
        raise DataError(f"{place / 'vocab.json'} is not a mapping from tokens to numbers")
    if sorted(vocabulary.values()) != list(range(len(vocabulary))):
        raise DataError(f"{place / 'vocab.json'} does not number its tokens 0, 1, 2, ...")
    special = {"<|startoftext|>", "<|endoftext|>"} - set(vocabulary)
    if special:
        raise DataError(f"{place / 'vocab.json'} lacks {' and '.join(sorted(special))}")
    return _construct(place)


def _construct(place: Path) -> Any:
    from paddlenlp.transformers import CLIPTokenizer

    pad = "<|endoftext|>"
    described = place / "special_tokens_map.json"
    if described.exists():
        entry = files.read_json(described)
        value = entry.get("pad_token", pad) if isinstance(entry, dict) else pad
        pad = value.get("content", pad) if isinstance(value, dict) else str(value)
    try:
        return CLIPTokenizer(
            str(place / "vocab.json"), str(place / "merges.txt"), pad_token=pad
        )
    except (ValueError, TypeError, KeyError, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{place} holds no CLIP tokenizer: {error}") from error
