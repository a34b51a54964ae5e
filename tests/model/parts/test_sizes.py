from __future__ import annotations

import json

import numpy as np
import pytest

from smalti.model.parts import ModalitySize, MosaicSizes, largest_linked_group

SIZES = MosaicSizes(
    modalities={
        "a": ModalitySize(n_features=3, likelihood="nb", input_kind="counts", input_config={"log": True}),
        "b": ModalitySize(n_features=5, likelihood="gaussian", input_kind="dense", masked=True),
        "c": ModalitySize(n_features=7, likelihood="nb", input_kind="counts"),
    },
    n_batch=2,
    n_labels=4,
    pairs=(("a", "b"),),
)


def test_sizes_survive_json():
    assert MosaicSizes.from_dict(json.loads(json.dumps(SIZES.to_dict()))) == SIZES


def test_pairs_have_no_direction():
    assert SIZES.has_pairs("a", "b")
    assert SIZES.has_pairs("b", "a")
    assert not SIZES.has_pairs("a", "c")


def rows(*present: str) -> dict[str, np.ndarray]:
    """Return row maps; cell ``i`` has the modalities in the ``i``-th word."""
    names = sorted(set("".join(present)))
    here = {name: np.array([name in cell for cell in present]) for name in names}
    return {name: np.where(mask, np.cumsum(mask) - 1, -1) for name, mask in here.items()}


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["ab"] * 3 + ["bc"] * 3, ["a", "b", "c"]),
        (["ab"] * 3 + ["c"] * 9, ["a", "b"]),
        (["ab"] * 3 + ["bc"], ["a", "b"]),
        (["ab"] * 2 + ["cd"] * 5, ["c", "d"]),
        (["ab"] * 9 + ["cd", "de", "ce"] * 2, ["c", "d", "e"]),
        (["a"] * 2, ["a"]),
    ],
)
def test_the_largest_linked_group_is_what_chains_of_pairs_connect(cells, expected):
    assert largest_linked_group(rows(*cells)) == expected


def test_nothing_is_linked_to_nothing():
    assert largest_linked_group({}) == []
