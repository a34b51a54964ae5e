from __future__ import annotations

import json

from smalti.model.parts import ModalitySize, MosaicSizes

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
