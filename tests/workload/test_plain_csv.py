"""Plain CSV: what is saved comes back, and a bad line is named."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from stoker.envs.cluster.errors import SpecError
from stoker.envs.cluster.spec import Function, Llm, Service
from stoker.envs.workload import Workload, plain_csv

FUNCTIONS = (
    Function("a", 1.5, 2.0, load_gib_s=math.inf, alpha_s=0.1, max_batch=4),
    Function("b, the second", 3.0, 3.0, runtime_s=1 / 3, slo_s=2.0),
)


def write(folder: Path, text: str, name: str = "req.csv") -> Path:
    path = folder / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["req.csv", "req.csv.gz"])
def test_what_is_saved_comes_back_bit_for_bit(tmp_path: Path, name: str) -> None:
    w = Workload(
        np.array([0.1, 1 / 3, 7.0]),
        np.array([1, 0, 1], np.int32),
        tuple(f.name for f in FUNCTIONS),
        9.0,
        np.array([0.1 + 0.2, 1e-9, 20.0]),
        np.array([1, 2, 3], np.int32),
        np.array([4, 5, 6], np.int32),
    )
    plain_csv.save(tmp_path / name, w, FUNCTIONS, tmp_path / "fn.csv")
    back, functions = plain_csv.load(tmp_path / name, tmp_path / "fn.csv", horizon_s=9.0)
    assert functions == FUNCTIONS
    assert back.names == w.names
    for column in ("arrival_s", "function", "service_s", "prompt_tokens", "output_tokens"):
        assert getattr(back, column).tobytes() == getattr(w, column).tobytes(), column


def test_without_a_table_functions_are_numbered_as_they_appear(tmp_path: Path) -> None:
    w, functions = plain_csv.load(write(tmp_path, "arrival_s,function\n0,z\n1,y\n2,z\n"))
    assert w.names == ("z", "y")
    assert w.function.tolist() == [0, 1, 0]
    assert w.horizon_s == 2.0
    assert functions == ()


def test_a_table_fixes_the_order_of_the_functions(tmp_path: Path) -> None:
    text = "name,weights_gib,device_gib,slo_s,gpus\ny,1,1,,\nz,2,2,5,4\n"
    table = write(tmp_path, text, "fn.csv")
    w, functions = plain_csv.load(write(tmp_path, "arrival_s,function\n0,z\n1,y\n"), table)
    assert w.names == ("y", "z")
    assert w.function.tolist() == [1, 0]
    assert (functions[0].slo_s, functions[1].slo_s) == (math.inf, 5.0)
    assert (functions[0].gpus, functions[1].gpus) == (1, 4)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("arrival_s,function\n1,a\n0.5,a\n", "req.csv:3 arrival_s"),
        ("arrival_s,function\n-1,a\n", "req.csv:2 arrival_s"),
        ("arrival_s,function\n0,a\nnan,a\n", "req.csv:3 arrival_s"),
        ("arrival_s,function\n0,a\ninf,a\n", "req.csv:3 arrival_s"),
        ("arrival_s,function\n0,a\n1,a\nsoon,a\n", "req.csv:4 arrival_s"),
        ("arrival_s,function\n0,a\n1,\n", "req.csv:3 function"),
        ("arrival_s,function\n0,a\n1,a,9\n", "req.csv:3 columns"),
        ("arrival_s,function,colour\n0,a,red\n", "req.csv: column"),
        ("arrival_s\n0\n", "req.csv: column"),
        ("arrival_s,function,function\n0,a,a\n", "req.csv:1"),
        ("arrival_s,function,prompt_tokens\n0,a,-3\n", "req.csv:2 prompt_tokens"),
        ("arrival_s,function,output_tokens\n0,a,2.5\n", "req.csv:2 output_tokens"),
        ("arrival_s,function,service_s\n0,a,-0.1\n", "req.csv:2 service_s"),
        ("arrival_s,function\n", "req.csv: rows"),
    ],
)
def test_a_bad_request_is_named_by_line_and_column(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        plain_csv.load(write(tmp_path, text))
    assert caught.value.field == field


def test_a_request_for_a_function_outside_the_table_is_refused(tmp_path: Path) -> None:
    table = write(tmp_path, "name,weights_gib,device_gib\na,1,1\n", "fn.csv")
    with pytest.raises(SpecError) as caught:
        plain_csv.load(write(tmp_path, "arrival_s,function\n0,a\n1,a\n2,b\n"), table)
    assert (caught.value.field, caught.value.value) == ("req.csv:4 function", "b")


@pytest.mark.parametrize(
    ("text", "field"),
    [
        ("name,weights_gib\na,1\n", "fn.csv: column"),
        ("name,weights_gib,device_gib,colour\na,1,1,red\n", "fn.csv: column"),
        ("name,weights_gib,device_gib\na,heavy,1\n", "fn.csv:2 weights_gib"),
        ("name,weights_gib,device_gib\na,1,1\nb,-1,1\n", "fn.csv:3 function[b].weights_gib"),
        ("name,weights_gib,device_gib,max_batch\na,1,1,2.5\n", "fn.csv:2 max_batch"),
        ("name,weights_gib,device_gib,gpus\na,1,1,2.5\n", "fn.csv:2 gpus"),
        ("name,weights_gib,device_gib,gpus\na,1,1,2\nb,1,1,9\n", "fn.csv:3 function[b].gpus"),
        ("name,weights_gib,device_gib\na,1,1\na,1,1\n", "fn.csv:3 name"),
        ("name,weights_gib,device_gib\na,1\n", "fn.csv:2 columns"),
        ("name,weights_gib,device_gib\na,,1\n", "fn.csv:2"),
    ],
)
def test_a_bad_function_is_named_by_line_and_column(tmp_path: Path, text: str, field: str) -> None:
    with pytest.raises(SpecError) as caught:
        plain_csv.load_functions(write(tmp_path, text, "fn.csv"))
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("services", (Service("fast", 0.1),)),
        ("batch_s", (0.1, 0.1, 0.2, 0.2)),
        ("llm", Llm("microsoft/phi-2|a40|tp1")),
    ],
)
def test_a_table_that_would_lose_something_is_not_written(
    tmp_path: Path, name: str, value: object
) -> None:
    one = replace(FUNCTIONS[0], **{"max_batch": 1 if name == "llm" else 4, name: value})
    w = Workload(np.array([0.1]), np.zeros(1, np.int32), ("a",), 9.0)
    with pytest.raises(SpecError, match=rf"function\[a\].{name}"):
        plain_csv.save(tmp_path / "req.csv", w, (one,), tmp_path / "fn.csv")
