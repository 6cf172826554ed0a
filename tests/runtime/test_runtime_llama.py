"""Llama models against a reference that keeps no cache and shares no code."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_llamas import LLAMA, LLAMA3_ROPE, Reference, write_llama
from torch import Tensor

from stoker.runtime.arena import aligned
from stoker.runtime.catalog import Deployment, Generation, Model, ModelError
from stoker.runtime.generator import Generator
from stoker.runtime.iterations import Sequence
from stoker.runtime.llama_config import read_llama
from stoker.runtime.models import build, load_reference
from stoker.runtime.pages import lay_out
from stoker.runtime.text import Text

pytestmark = pytest.mark.usefixtures("one_thread")

FORMS: dict[str, dict[str, Any]] = {
    "tied": {},
    "grouped": {"num_attention_heads": 8, "num_key_value_heads": 2, "head_dim": 8},
    "one key head": {"num_key_value_heads": 1},
    "every head": {"num_key_value_heads": 4},
    "own output": {"tie_word_embeddings": False},
    "llama3 rope": {"rope_scaling": LLAMA3_ROPE, "rope_theta": 500000.0, "head_dim": 32},
    "three files": {"shards": 3},
}


def generator(model: Model, how: Generation) -> Generator:
    made = Generator(load_reference(model).decoder, how, Text(model.folder))
    cache = Deployment("f", model, how).device_bytes - aligned(model.data_bytes)
    made.bind(torch.zeros(cache, dtype=torch.uint8))
    return made


def run(made: Generator, prompts: list[list[int]], most: list[int]) -> list[dict[str, Any]]:
    for i, (prompt, count) in enumerate(zip(prompts, most, strict=True)):
        made.submit((i, 0), {"prompt": prompt, "max_tokens": count})
    answers: dict[int, dict[str, Any]] = {}
    while len(made):
        for token in made.step():
            if token.answer is not None:
                answers[token.key[0]] = token.answer
    assert made.iterations.blocks.used == 0
    return [answers[i] for i in range(len(prompts))]


def random_prompts(seed: int, count: int, longest: int = 70) -> list[list[int]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 97, rng.integers(1, longest)).tolist() for _ in range(count)]


@pytest.mark.parametrize("form", FORMS)
def test_logits_equal_those_of_full_attention(form: str, tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", 3, **FORMS[form])
    module, reference = load_reference(model).decoder, Reference(model)
    shape = module.shape
    cache = torch.full((shape.layers, 2, 20, 16, shape.kv_heads, shape.head_width), 7.0)
    sequences = [Sequence(p, len(p), 1) for p in random_prompts(0, 4)]
    for i, sequence in enumerate(sequences):
        sequence.blocks = [5 * i + (i + k) % 5 for k in range(5)]
    halves = [max(len(s.tokens) // (2 + i), 1) for i, s in enumerate(sequences)]
    for counts in (halves, [len(s.tokens) - n for s, n in zip(sequences, halves, strict=True)]):
        batch = [(s, n) for s, n in zip(sequences, counts, strict=True) if n]
        repeat = shape.heads // shape.kv_heads
        with torch.inference_mode():
            iteration, ordered = lay_out(batch, 16, repeat, module.embedding)
            logits = module(iteration, cache)
        for sequence, count in batch:
            sequence.cached += count
        expected = [reference.logits(s.tokens)[s.cached - 1] for s in ordered]
        torch.testing.assert_close(logits, torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_a_tensor_of_the_stock_attention_gives_the_same(tmp_path: Path) -> None:
    """The reference itself against torch's own multi-head attention, positions left aside."""
    model = write_llama(tmp_path / "m", num_key_value_heads=4, num_hidden_layers=1)
    reference = Reference(model)
    reference._rotated = lambda x: x  # type: ignore[method-assign]
    seen: list[Tensor] = []
    norm = reference._norm
    reference._norm = lambda x, name: seen.append(x) or norm(x, name)  # type: ignore
    tokens = random_prompts(1, 1)[0]
    reference.logits(tokens)
    w, at = reference.weights, "model.layers.0.self_attn"
    stock = torch.nn.MultiheadAttention(32, 4, bias=False)
    weights = [w[f"{at}.{n}_proj.weight"] for n in "qkv"]
    stock.load_state_dict(
        {"in_proj_weight": torch.cat(weights), "out_proj.weight": w[f"{at}.o_proj.weight"]}
    )
    x = norm(seen[0], "model.layers.0.input_layernorm.weight")
    later = torch.ones(len(tokens), len(tokens), dtype=torch.bool).triu(1)
    expected = seen[0] + stock(x, x, x, attn_mask=later, need_weights=False)[0]
    torch.testing.assert_close(seen[1], expected.detach(), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("budget", [0, 7, 64])
@pytest.mark.parametrize("blocks", [12, 200])
def test_a_batch_gives_what_each_gives_alone_whoever_is_preempted(
    budget: int, blocks: int, tmp_path: Path
) -> None:
    model = write_llama(tmp_path / "m", 5, shards=2)
    prompts = random_prompts(budget + blocks, 40)
    rng = np.random.default_rng(2)
    most = rng.integers(1, 40, 40).tolist()
    one = generator(model, Generation(blocks=200, max_batch=1, token_budget=0))
    alone = [run(one, [p], [n])[0]["tokens"] for p, n in zip(prompts, most, strict=True)]
    many = generator(model, Generation(blocks, max_batch=16, token_budget=budget))
    together = run(many, prompts, most)
    assert [a["tokens"] for a in together] == alone
    assert (sum(a["preemptions"] for a in together) > 0) == (blocks == 12)


def test_what_is_generated_is_what_the_reference_says_is_most_likely(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", 8)
    prompts = random_prompts(4, 6)
    answers = run(generator(model, Generation(60)), prompts, [25] * 6)
    reference = Reference(model)
    assert [a["tokens"] for a in answers] == [reference.greedy(p, 25) for p in prompts]
    assert {a["finish"] for a in answers} == {"length"}


def test_a_sequence_ends_with_an_end_token_unless_told_otherwise(tmp_path: Path) -> None:
    plain = write_llama(tmp_path / "plain", 8)
    (prompt,) = random_prompts(4, 1)
    (free,) = run(generator(plain, Generation(60)), [prompt], [25])
    end = free["tokens"][4]
    first = free["tokens"].index(end)
    model = write_llama(tmp_path / "m", 8, eos_token_id=[96, end])
    (answer,) = run(generator(model, Generation(60)), [prompt], [25])
    assert answer["tokens"] == free["tokens"][: first + 1] and answer["finish"] == "stop"
    made = generator(model, Generation(60))
    made.submit((0, 0), {"prompt": prompt, "max_tokens": 25, "ignore_end": True})
    tokens = []
    while len(made):
        tokens += [t.token for t in made.step()]
    assert tokens == free["tokens"]
    (model.folder / "generation_config.json").write_text('{"eos_token_id": 96}')
    assert read_llama(model.config, model.folder).end_tokens == {96}


def test_llama3_frequencies_as_the_published_example_has_them(tmp_path: Path) -> None:
    """Llama 3.1 8B: theta 500,000, heads of 128, factor 8 on a context of 8,192."""
    rope = {**LLAMA3_ROPE, "factor": 8.0, "original_max_position_embeddings": 8192}
    config = {**LLAMA, "head_dim": 128, "rope_theta": 500000.0, "rope_scaling": rope}
    found = read_llama(config, tmp_path).frequencies
    plain = [500000.0 ** (-2 * i / 128) for i in range(64)]
    # Wavelengths below 2,048 stay (i <= 28), above 8,192 are stretched eightfold (i >= 35).
    assert found[:29] == pytest.approx(plain[:29]) and found[29] < plain[29]
    assert found[35:] == pytest.approx([f / 8 for f in plain[35:]]) and found[34] > plain[34] / 8
    newer = {**LLAMA, "head_dim": 128, "rope_parameters": {**rope, "rope_theta": 500000.0}}
    assert read_llama(newer, tmp_path).frequencies == found
    linear = {**config, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert read_llama(linear, tmp_path).frequencies == pytest.approx([f / 2 for f in plain])


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"num_key_value_heads": 3}, "num_key_value_heads = 3"),
        ({"num_attention_heads": 5}, "num_"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'.*silu"),
        ({"sliding_window": 16}, "sliding_window = 16"),
        ({"rope_scaling": {"rope_type": "yarn"}}, "rope_type = 'yarn'.*linear"),
        ({"rope_scaling": 3}, "rope_scaling = 3"),
        ({"head_dim": 7}, "head_dim = 7"),
        ({"rms_norm_eps": 0}, "rms_norm_eps = 0"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings = 'no'"),
        ({"eos_token_id": "x"}, "eos_token_id = 'x'"),
        ({"vocab_size": None}, "vocab_size = None"),
    ],
)
def test_a_config_that_cannot_be_served_is_named(
    changes: dict[str, Any], field: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=field):
        read_llama({**LLAMA, **changes}, tmp_path)


def rewrite(model: Model, change: Callable[[str, Tensor], Tensor], **more: Tensor) -> Model:
    tensors = load_file(model.weights_file)
    save_file({n: change(n, t) for n, t in tensors.items()} | more, model.weights_file)
    return Model.read(model.folder)


def test_sixteen_bit_weights_are_served_in_their_own_type(tmp_path: Path) -> None:
    whole = write_llama(tmp_path / "m", 8)
    exact = Reference(whole).logits(random_prompts(4, 1)[0])[-1]
    model = rewrite(whole, lambda name, t: t.bfloat16())
    how = Generation(60)
    assert Deployment("f", model, how).device_bytes - aligned(model.data_bytes) == 3 * 2 * 960 * 32
    made = generator(model, how)
    sequence = Sequence(random_prompts(4, 1)[0], 1, 1)
    sequence.blocks = list(range(5))
    with torch.inference_mode():
        batch, _ = lay_out([(sequence, len(sequence.tokens))], 16, 2, made.module.embedding)
        assert made._cache is not None
        logits = made.module(batch, made._cache)[0]
    assert logits.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), exact, atol=0.1, rtol=0.1)
    assert [len(a["tokens"]) for a in run(made, random_prompts(5, 3), [9] * 3)] == [9] * 3


def test_types_that_cannot_be_computed_in_are_named(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m")
    mixed = rewrite(model, lambda n, t: t.half() if n.endswith("q_proj.weight") else t)
    with pytest.raises(ModelError, match=r"q_proj\.weight\.dtype = 'F16'.*one for all"):
        build(mixed)
    whole = rewrite(model, lambda name, t: t.to(torch.int8))
    with pytest.raises(ModelError, match=r"dtype = 'I8'"):
        build(whole)


def test_frequencies_in_an_older_file_are_left_where_they_are(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", 8)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    (prompt,) = random_prompts(4, 1)
    expected = Reference(model).greedy(prompt, 10)
    older = rewrite(model, lambda n, t: t, **{name: torch.ones(4)})
    assert run(generator(older, Generation(60)), [prompt], [10])[0]["tokens"] == expected


def test_weights_in_several_files_must_be_complete(tmp_path: Path) -> None:
    model = write_llama(tmp_path / "m", shards=3)
    index = model.folder / "model.safetensors.index.json"
    whole = json.loads(index.read_text())
    second = model.shards[1].path

    def refused(weight_map: dict[str, Any], match: str) -> None:
        index.write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(ModelError, match=match):
            Model.read(model.folder)

    placed = whole["weight_map"]
    refused({**placed, "model.extra": second.name}, "tensor model.extra = 'missing'")
    refused({**placed, "x": "../escape.safetensors"}, r"weight_map\.x .*a file of this folder")
    refused({**placed, "x": "absent.safetensors"}, r"absent\.safetensors = 'missing'")
    refused({}, "weight_map")
    index.write_text("{")
    with pytest.raises(ModelError, match=r"index\.json"):
        Model.read(model.folder)
    index.write_text(json.dumps(whole))
    second.write_bytes(second.read_bytes()[:-8])
    with pytest.raises(ModelError, match=rf"{second.name}: data.*cut short"):
        Model.read(model.folder)
    left = {t: f for t, f in placed.items() if f != second.name}
    index.write_text(json.dumps({"weight_map": left}))
    with pytest.raises(ModelError, match=r"tensor model\..*'missing'"):
        build(Model.read(model.folder))
