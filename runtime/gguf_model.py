"""Turns a Llama model in a GGUF file into a folder of the Hugging Face layout, in float32.

Needs the packages `gguf` and `tokenizers` (extra `smollm2`).  GGUF holds the rows of queries and
keys with the two halves of a rotary pair beside each other; here they are put apart again.

Units: bytes.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from stoker.runtime.catalog import CONFIG, Model
from stoker.runtime.text import FILE as TOKENIZER
from stoker.runtime.weights import WEIGHTS, ModelError

NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
OUTER = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
CONTROL = 3
"""Type of a token that stands for no text."""


def convert(source: Path, folder: Path) -> Model:
    """Write a model folder whole, or not at all, and read it back checked.

    Raises:
        ModelError: the file is no Llama model with byte-level tokens.
    """
    from gguf import GGUFReader

    reader = GGUFReader(source)
    kind = _field(reader, "general.architecture", source)
    if kind != "llama":
        raise ModelError(f"{source}: general.architecture", kind, "llama")
    config = _config(reader, source)
    tensors = _tensors(reader, config)
    config["tie_word_embeddings"] = "lm_head.weight" not in tensors
    draft = folder.with_name(f".{folder.name}.{os.getpid()}.draft")
    draft.mkdir(parents=True)
    try:
        (draft / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        _write_tokenizer(reader, source, draft / TOKENIZER)
        save_file(tensors, draft / WEIGHTS)
        shutil.rmtree(folder, ignore_errors=True)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Model.read(folder)


def _field(reader: Any, name: str, source: Path) -> Any:
    field = reader.get_field(name)
    if field is None:
        raise ModelError(f"{source}: {name}", None, "a field of a Llama model")
    return field.contents()


def _config(reader: Any, source: Path) -> dict[str, Any]:
    def of(name: str) -> Any:
        return _field(reader, f"llama.{name}", source)

    return {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": int(of("embedding_length")),
        "num_hidden_layers": int(of("block_count")),
        "num_attention_heads": int(of("attention.head_count")),
        "num_key_value_heads": int(of("attention.head_count_kv")),
        "intermediate_size": int(of("feed_forward_length")),
        "max_position_embeddings": int(of("context_length")),
        "rms_norm_eps": float(of("attention.layer_norm_rms_epsilon")),
        "rope_theta": float(of("rope.freq_base")),
        "vocab_size": int(of("vocab_size")),
        "eos_token_id": int(_field(reader, "tokenizer.ggml.eos_token_id", source)),
    }


def _tensors(reader: Any, config: dict[str, Any]) -> dict[str, NDArray[np.float32]]:
    from gguf.quants import dequantize

    tensors = {}
    for tensor in reader.tensors:
        values = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        parts = tensor.name.split(".")
        if parts[0] != "blk":
            tensors[f"{OUTER[parts[0]]}.{parts[1]}"] = values
            continue
        if parts[2] in ("attn_q", "attn_k"):
            heads = "num_attention_heads" if parts[2] == "attn_q" else "num_key_value_heads"
            values = _apart(values, config[heads])
        tensors[f"model.layers.{parts[1]}.{NAMES[parts[2]]}.{parts[3]}"] = values
    return tensors


def _apart(rows: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """Put the halves of each head's rotary pairs behind each other. Shape: (rows, width)."""
    pairs = rows.reshape(heads, -1, 2, rows.shape[1])
    return np.ascontiguousarray(pairs.swapaxes(1, 2).reshape(rows.shape))


def _write_tokenizer(reader: Any, source: Path, path: Path) -> None:
    """Write the byte-level tokenizer, whose digits are tokens of their own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind = _field(reader, "tokenizer.ggml.model", source)
    if kind != "gpt2":
        raise ModelError(f"{source}: tokenizer.ggml.model", kind, "gpt2 (byte-level)")
    tokens = _field(reader, "tokenizer.ggml.tokens", source)
    merges = [tuple(m.split(" ")) for m in _field(reader, "tokenizer.ggml.merges", source)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges))
    digits, level = pre_tokenizers.Digits(True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, level])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = _field(reader, "tokenizer.ggml.token_type", source)
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == CONTROL]
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in control])
    tokenizer.save(str(path))
