"""Architectures, their files and the demo models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from small_models import CNN, GPT, MakeModel, image

from stoker.runtime.catalog import Model, ModelError
from stoker.runtime.digits import draw_digits
from stoker.runtime.models import build, load_reference
from stoker.runtime.packaged import minilm
from stoker.runtime.training import Recipe, train_demo_models

TINY_BERT = {
    "architectures": ["BertModel"],
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "intermediate_size": 16,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "vocab_size": 9,
}


def test_a_prompt_is_continued_alike_alone_and_in_a_batch(make_model: MakeModel) -> None:
    binder = load_reference(make_model("m"))
    prompts = ["once upon a time there was", "x", "", "naïve"]
    together = binder.answer(prompts)
    assert together == [binder.answer([p])[0] for p in prompts]
    assert all(len(answer) == GPT["new_bytes"] for answer in together)


def test_the_cache_gives_what_reading_everything_again_gives(make_model: MakeModel) -> None:
    import torch

    binder = load_reference(make_model("m"))
    tokens = list(b"abcdefgh".rjust(16))
    for _ in range(GPT["new_bytes"]):
        with torch.inference_mode():
            tokens.append(int(binder.module(torch.tensor([tokens]))[0, -1].argmax()))
    assert binder.answer(["abcdefgh"]) == [bytes(tokens[16:]).decode("latin-1")]


def test_an_image_is_classified(make_model: MakeModel) -> None:
    answer = load_reference(make_model("c", CNN)).answer([image(0)])[0]
    assert 0 <= answer["class"] <= 9 and 0.0 < answer["probability"] <= 1.0


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"heads": 3}, r"config\.json: heads = 3"),
        ({"width": 0}, r"config\.json: width = 0"),
        ({"layers": "2"}, r"config\.json: layers = '2'"),
        ({"context": 8}, r"config\.json: context = 8.*>= 20"),
        ({"layers": 1}, r"tensor blocks\.1\..* = 'unexpected'"),
        ({"context": 64}, r"tensor positions\.weight\.shape = \(32, 32\)"),
    ],
)
def test_a_config_that_does_not_fit_its_weights_is_named(
    make_model: MakeModel, changes: dict[str, object], field: str
) -> None:
    folder = make_model("m").folder
    (folder / "config.json").write_text(json.dumps({**GPT, **changes}))
    with pytest.raises(ModelError, match=field):
        build(Model.read(folder))


def write_tiny_bert(folder: Path) -> None:
    rng = np.random.default_rng(0)
    w, at = 8, "encoder.layer.0"
    shapes: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (9, w),
        "embeddings.position_embeddings.weight": (16, w),
        "embeddings.token_type_embeddings.weight": (2, w),
        "embeddings.LayerNorm.weight": (w,),
        "embeddings.LayerNorm.bias": (w,),
        "pooler.dense.weight": (w, w),
    }
    for name, rows, columns in (
        ("attention.self.query", w, w),
        ("attention.self.key", w, w),
        ("attention.self.value", w, w),
        ("attention.output.dense", w, w),
        ("intermediate.dense", 16, w),
        ("output.dense", w, 16),
    ):
        shapes |= {f"{at}.{name}.weight": (rows, columns), f"{at}.{name}.bias": (rows,)}
    for name in ("attention.output.LayerNorm", "output.LayerNorm"):
        shapes |= {f"{at}.{name}.weight": (w,), f"{at}.{name}.bias": (w,)}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY_BERT))
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "play", "##ing", "cafe", "!", "we"]
    (folder / "vocab.txt").write_text("\n".join(words))
    drawn = {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    save_file(drawn, folder / "model.safetensors")


def test_a_bert_folder_gives_unit_vectors_that_do_not_depend_on_padding(tmp_path: Path) -> None:
    write_tiny_bert(tmp_path / "bert")
    binder = load_reference(Model.read(tmp_path / "bert"))
    texts = ["we", "We playing Café!", "we we we we we we"]
    together = np.stack(binder.answer(texts))
    alone = np.stack([binder.answer([t])[0] for t in texts])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1.0, rtol=1e-6)


def test_word_pieces_are_the_longest_that_the_vocabulary_has(tmp_path: Path) -> None:
    from stoker.runtime.bert import WordPiece

    write_tiny_bert(tmp_path / "bert")
    pieces = WordPiece(Model.read(tmp_path / "bert"))
    assert pieces.encode("We playing CAFÉ!") == [2, 8, 4, 5, 6, 7, 3]
    assert pieces.encode("zebra play") == [2, 1, 4, 3]
    (tmp_path / "bert" / "vocab.txt").write_text("a\nb")
    with pytest.raises(ModelError, match=r"vocabulary = 'no \[CLS\]'"):
        WordPiece(Model.read(tmp_path / "bert"))


def test_minilm_knows_what_is_alike(tmp_path: Path) -> None:
    model = minilm(tmp_path)
    if model is None:
        pytest.skip("the extra `minilm` is not installed")
    vectors = np.stack(
        load_reference(model).answer(
            ["A man is eating food.", "Somebody eats a meal.", "The stock market fell today."]
        )
    )
    alike, unlike = vectors[0] @ vectors[1], vectors[0] @ vectors[2]
    assert alike > 0.5 > 0.2 > unlike


def test_demo_models_are_trained_once_and_say_how(tmp_path: Path) -> None:
    recipes = (
        Recipe("gpt", GPT, 3, 2, 1e-3),
        Recipe("digits", CNN, 120, 48, 3e-3),
    )
    told: list[tuple[str, float]] = []
    models = train_demo_models(tmp_path, 0, lambda *a: told.append(a), recipes)
    assert told[-1] == ("digits", 1.0)
    training = models[1].config["training"]
    assert training["accuracy"] > 0.2 and "seconds" in training["note"]
    before = models[0].weights_file.stat().st_mtime_ns
    again = train_demo_models(tmp_path, 0, None, recipes)
    assert again == models and again[0].weights_file.stat().st_mtime_ns == before
    other = train_demo_models(tmp_path, 1, None, recipes[:1])
    assert other[0].weights_file.stat().st_mtime_ns != before
    assert not list(tmp_path.glob(".*"))


def test_drawn_digits_and_payloads_come_from_the_generator_given() -> None:
    images, labels = draw_digits(50, np.random.default_rng(1))
    assert images.shape == (50, 28, 28) and images.min() >= 0.0 and images.max() <= 1.0
    assert set(labels) <= set(range(10))
    again, _ = draw_digits(50, np.random.default_rng(1))
    np.testing.assert_array_equal(images, again)
