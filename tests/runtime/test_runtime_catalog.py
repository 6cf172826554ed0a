from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from small_models import CNN, MakeModel

from stoker.runtime.catalog import Model, ModelError, deploy, read_models


def test_a_folder_is_read_without_its_weights(make_model: MakeModel) -> None:
    model = make_model("digits", CNN)
    assert model.architecture == "digit_cnn"
    values = 8 * 9 + 8 + 8 * 8 * 9 + 8 + 256 * 392 + 256 + 10 * 256 + 10
    assert model.data_bytes == 4 * values
    (shard,) = model.shards
    assert shard.data_start + model.data_bytes == model.weights_file.stat().st_size


def test_a_truncated_file_is_named(make_model: MakeModel) -> None:
    path = make_model("cut").weights_file
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors: data .*cut short"):
        Model.read(path.parent)


def test_a_file_cut_inside_its_header_is_named(make_model: MakeModel) -> None:
    path = make_model("cut").weights_file
    for keep in (0, 5, 40):
        path.write_bytes(path.read_bytes()[:keep])
        with pytest.raises(ModelError, match=r"model\.safetensors: header"):
            Model.read(path.parent)


def test_a_missing_file_is_named(make_model: MakeModel) -> None:
    model = make_model("gone")
    model.weights_file.unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors = 'missing'"):
        Model.read(model.folder)
    with pytest.raises(ModelError, match=r"config\.json = 'missing'"):
        Model.read(model.folder / "nowhere")


@pytest.mark.parametrize(
    ("entry", "field"),
    [
        ({"dtype": "Q7", "shape": [1], "data_offsets": [0, 4]}, "dtype"),
        ({"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}, "data_offsets"),
        ({"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}, "data_offsets"),
        ({"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}, "data_offsets"),
        ({"dtype": "F32", "shape": [1]}, "tensor x"),
        ([], "tensor x"),
    ],
)
def test_a_bad_header_entry_is_named(make_model: MakeModel, entry: object, field: str) -> None:
    path = make_model("bad").weights_file
    header = json.dumps({"x": entry}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ModelError, match=field):
        Model.read(path.parent)


def test_an_unknown_architecture_names_the_choices(make_model: MakeModel) -> None:
    model = make_model("odd")
    (model.folder / "config.json").write_text('{"architecture": "transformer9"}')
    with pytest.raises(ModelError, match=r"architecture = 'transformer9'.*byte_gpt \| digit_cnn"):
        Model.read(model.folder)


@pytest.mark.parametrize("text", ["{", "[]", "\x00"])
def test_a_config_that_is_no_object_is_named(make_model: MakeModel, text: str) -> None:
    model = make_model("odd")
    (model.folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json .*a JSON object"):
        Model.read(model.folder)


def test_few_models_make_many_functions(make_model: MakeModel) -> None:
    a, b = make_model("a"), make_model("b", seed=1)
    served = deploy([a, b], 5)
    assert [d.function for d in served] == ["a-0", "b-0", "a-1", "b-1", "a-2"]
    assert served[4].model is a
    with pytest.raises(ModelError, match="models"):
        deploy([], 1)
    with pytest.raises(ModelError, match="functions"):
        deploy([a], 0)


def test_a_folder_of_models_is_read_in_order(make_model: MakeModel, tmp_path: Path) -> None:
    second, first = make_model("b", seed=1), make_model("a")
    (tmp_path / "notes").mkdir()
    assert read_models(tmp_path) == (first, second)
    with pytest.raises(ModelError, match=r"models = .*notes"):
        read_models(tmp_path / "notes")


def test_weights_are_reached_by_a_resolved_path(make_model: MakeModel, tmp_path: Path) -> None:
    assert make_model("a").folder.is_absolute()
