from __future__ import annotations

import numpy as np
import pytest

import smalti as sm

pytest.importorskip("captum", reason="captum is not installed")


def test_contributions_are_finite_and_add_up_or_the_model_says_why_not(trained_plan):
    model, mdata = trained_plan.model, trained_plan.mdata
    for name in model.modalities:
        block = "full" if "full" in model.blocks else None
        try:
            found = sm.tl.attribute(model, name, "batch", block=block, n_cells=8, n_steps=16)
        except ValueError as error:
            said = ("fixed projection", "through components", "has gates", "fewer than two groups")
            assert any(words in str(error) for words in said), error  # noqa: PT017
            continue
        assert np.isfinite(found.values.to_numpy()).all()
        assert list(found.values.index) == list(mdata[name].var_names)


def test_aligned_is_another_name_for_the_block_that_the_network_matches_in(trained_plan):
    model = trained_plan.model
    name = model.modalities[0]
    try:
        by_name, by_alias = (
            sm.tl.attribute(model, name, "batch", block=block, n_cells=4, n_steps=4).values
            for block in (model.aligned_block, "aligned")
        )
    except ValueError as error:
        assert any(words in str(error) for words in ("projection", "has gates", "no aligned block", "groups"))  # noqa: PT017
        return
    np.testing.assert_array_equal(by_name, by_alias)
