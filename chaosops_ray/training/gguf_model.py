"""SmolLM2, or a Llama like it, of a GGUF file becomes a folder that transformers and vLLM load, with weights in bf16.

Whatever a base model's digest is taken of is written here, field by field, without transformers, which writes other
files from release to release: the same file gives the same digest everywhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from safetensors.torch import save
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from chaosops_ray.agents.tokens import TOKENIZER_FILE
from chaosops_ray.wire import Files

# Names of tensors in the file, and in transformers' Llama; the layers' have a number before them.
_WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm"}
_OF_A_LAYER = {
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
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
_CONTROL = 3  # the kind of token that no text may spell


def files(file: Path) -> Files:
    """Return the model of the file, as the files of a folder."""
    reader = gguf.GGUFReader(file)
    fields = {name: field.contents() for name, field in reader.fields.items()}
    tokens = fields["tokenizer.ggml.tokens"]
    special = {name: tokens[fields[f"tokenizer.ggml.{theirs}_token_id"]] for name, theirs in _SPECIAL.items()}
    return {
        "config.json": _json(_config(fields)),
        "model.safetensors": save(dict(_weights(reader, fields)), {"format": "pt"}),
        TOKENIZER_FILE: _tokenizer(fields).to_str(pretty=True).encode(),
        "tokenizer_config.json": _json({"tokenizer_class": "PreTrainedTokenizerFast", **special}),
        "chat_template.jinja": fields["tokenizer.chat_template"].encode(),
    }


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    heads, hidden = fields["llama.attention.head_count"], fields["llama.embedding_length"]
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "bfloat16",
        "hidden_act": "silu",
        "hidden_size": hidden,
        "intermediate_size": fields["llama.feed_forward_length"],
        "num_hidden_layers": fields["llama.block_count"],
        "num_attention_heads": heads,
        "num_key_value_heads": fields["llama.attention.head_count_kv"],
        "head_dim": hidden // heads,
        "max_position_embeddings": fields["llama.context_length"],
        "rms_norm_eps": float(fields["llama.attention.layer_norm_rms_epsilon"]),
        "rope_parameters": {"rope_type": "default", "rope_theta": float(fields["llama.rope.freq_base"])},
        "tie_word_embeddings": True,
        "vocab_size": len(fields["tokenizer.ggml.tokens"]),
        "bos_token_id": fields["tokenizer.ggml.bos_token_id"],
        "eos_token_id": fields["tokenizer.ggml.eos_token_id"],
        "pad_token_id": fields["tokenizer.ggml.padding_token_id"],
    }


def _weights(reader: gguf.GGUFReader, fields: dict[str, Any]) -> Iterator[tuple[str, torch.Tensor]]:
    heads = {
        "attn_q": fields["llama.attention.head_count"],
        "attn_k": fields["llama.attention.head_count_kv"],
    }
    for tensor in sorted(reader.tensors, key=lambda one: one.name):
        weight = gguf.dequantize(tensor.data, tensor.tensor_type)
        place, _, part = tensor.name.removesuffix(".weight").rpartition(".")
        if part in heads:
            weight = _rotated_by_halves(weight, heads[part])
        name = f"model.layers.{place.removeprefix('blk.')}.{_OF_A_LAYER[part]}" if place else _WHOLE[part]
        # The published model is in bf16, too: next to what 4 bits lose, what is lost here is a sixtieth.
        yield f"{name}.weight", torch.from_numpy(np.array(weight, np.float32)).to(torch.bfloat16)


def _rotated_by_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put a head's rows in transformers' order: the file has those that rotate together as pairs, it as two halves."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _tokenizer(fields: dict[str, Any]) -> Tokenizer:
    tokens = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    tokenizer = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    # The file names this way of taking text apart, `smollm`: digit by digit first, then as GPT-2 does.
    digits = pre_tokenizers.Digits(individual_digits=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tokenizer.decoder = decoders.ByteLevel()
    kinds = zip(tokens, fields["tokenizer.ggml.token_type"], strict=True)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token, kind in kinds if kind == _CONTROL])
    return tokenizer


def _json(fields: dict[str, Any]) -> bytes:
    return (json.dumps(fields, indent=2, sort_keys=True) + "\n").encode()
