from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from smalti._errors import UnsafeFileError
from smalti.model.base._persistence import from_plain, read_model, to_plain, write_model


def there_and_back(value):
    return from_plain(json.loads(json.dumps(to_plain(value))))


@pytest.mark.parametrize(
    "array",
    [
        np.arange(3),
        np.array([1.5, np.nan, np.inf]),
        np.array([[True, False]]),
        np.array(["x", "long name"], dtype=object).astype(str),
        np.zeros(0, dtype=np.float32),
        np.arange(4, dtype=np.uint8).reshape(2, 2),
    ],
    ids=lambda a: str(a.dtype),
)
def test_arrays_come_back_with_values_and_number_type(array):
    back = there_and_back({"x": array})["x"]
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_arrays_of_names_come_back_as_text():
    back = there_and_back(np.array(["a", "b"], dtype=object))
    assert list(back) == ["a", "b"]


def test_tables_come_back():
    table = pd.DataFrame({"loss": [1.0, np.nan]}, index=[0, 1])
    pd.testing.assert_frame_equal(there_and_back({"t": table})["t"], table)


def test_plain_values_come_back():
    value = {"none": None, "flag": True, "list": [1, "x", {"deep": 2.5}], "number": np.int64(3), "tuple": (1, 2)}
    back = there_and_back(value)
    assert back == {"none": None, "flag": True, "list": [1, "x", {"deep": 2.5}], "number": 3, "tuple": [1, 2]}
    assert type(back["number"]) is int


def test_anything_else_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(TypeError, match="A function cannot be stored"):
        write_model(tmp_path / "model", {}, {"f": there_and_back}, overwrite=False)
    assert not (tmp_path / "model").exists()


def test_weights_come_back_whatever_their_layout(tmp_path):
    weights = {"t": torch.arange(6.0).reshape(2, 3).T, "mask": torch.tensor([True, False]), "n": torch.tensor(3)}
    write_model(tmp_path, weights, {"x": 1}, overwrite=False)
    found, registry = read_model(tmp_path)
    assert registry["x"] == 1
    assert set(found) == set(weights)
    for name, tensor in weights.items():
        assert torch.equal(found[name], tensor)
        assert found[name].dtype == tensor.dtype


def test_missing_weights_are_named(tmp_path):
    write_model(tmp_path, {}, {}, overwrite=False)
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(UnsafeFileError, match=r"model\.safetensors"):
        read_model(tmp_path)


def test_truncated_weights_are_refused(tmp_path):
    write_model(tmp_path, {"x": torch.zeros(100)}, {}, overwrite=False)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(UnsafeFileError, match=r"model\.safetensors"):
        read_model(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "\x00\xff", "[" * 100_000])
def test_files_that_are_no_json_are_refused(tmp_path, text):
    (tmp_path / "model.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UnsafeFileError, match=r"model\.json"):
        read_model(tmp_path)
