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
