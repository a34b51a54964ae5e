"""Bad input gets one clear sentence that names the place, before training starts; the user's object stays as it was."""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import scipy.sparse as sp
from _compare import SCVI_IDS, assert_same, rebuilt, snapshot
from _factories import make_mosaic
from contract.conftest import contract_mosaic
from mudata import MuData

from smalti._errors import MosaicAlignmentError
from smalti.data import Modality

if TYPE_CHECKING:
    from collections.abc import Callable

    from anndata import AnnData


@dataclass(frozen=True)
class Case:
    """What a user does wrong, and what the error must say."""

    name: str
    spoil: Callable[[MuData], MuData]
    error: type[Exception]
    says: tuple[str, ...]
    """Parts of the message, regular expressions."""
    setup: dict[str, Any] = field(default_factory=dict)


def with_values(name: str, change: Callable[[np.ndarray], None], *, sparse: bool = False) -> Callable[[MuData], MuData]:
    """Return what changes values of a modality."""

    def spoil(mdata: MuData) -> MuData:
        x = mdata[name].X
        x = x.toarray() if sp.issparse(x) else x.copy()
        change(x)
        mdata[name].X = sp.csc_matrix(x) if sparse else x
        return mdata

    return spoil


def at(row: int, column: int, value: float) -> Callable[[np.ndarray], None]:
    def change(x: np.ndarray) -> None:
        x[row, column] = value

    return change


def with_modality(name: str, change: Callable[[AnnData], AnnData]) -> Callable[[MuData], MuData]:
    """Return what builds the MuData anew with one modality changed."""
    return lambda mdata: rebuilt(mdata, {m: change(mod) if m == name else mod for m, mod in mdata.mod.items()})


def named(index: str, *names: tuple[int, int]) -> Callable[[AnnData], AnnData]:
    """Return what gives a variable or cell the name of another one."""

    def change(mod: AnnData) -> AnnData:
        mod = mod.copy()
        labels = getattr(mod, index).to_numpy(dtype=object).copy()
        for to, source in names:
            labels[to] = labels[source]
        setattr(mod, index, labels.astype(str))
        return mod

    return change


def in_place(change: Callable[[MuData], None]) -> Callable[[MuData], MuData]:
    def spoil(mdata: MuData) -> MuData:
        change(mdata)
        return mdata

    return spoil


def stale_subset(mdata: MuData) -> None:
    mdata.mod["b"] = mdata.mod["b"][:10].copy()


def stale_order(mdata: MuData) -> None:
    mdata.mod["b"] = mdata.mod["b"][::-1].copy()


def set_obs(column: str, values: Callable[[MuData], Any]) -> Callable[[MuData], MuData]:
    return in_place(lambda mdata: mdata.obs.__setitem__(column, values(mdata)))


def repeated_cells(mdata: MuData) -> MuData:
    mod = mdata["b"].copy()
    mod.obs_names = ["twin", "twin", *mod.obs_names[2:]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return MuData({"a": mdata["a"], "b": mod})


COUNTS = {"a": "nb", "b": "nb", "c": "gaussian"}
NO_KEYS = {"batch_key": None, "labels_key": None}

ALWAYS = [
    Case("a view", lambda m: m[:50], MosaicAlignmentError, ("is a view", "indices=")),
    Case(
        "a cell with NaN alone",
        with_values("c", lambda x: x[3].fill(np.nan)),
        ValueError,
        ("'c' has only missing values .* in 1 cells", "cell_", "not there"),
    ),
    Case("infinity in sparse", with_values("a", at(5, 2, np.inf), sparse=True), ValueError, ("'a' has 1 inf", "cell_")),
    Case("infinity", with_values("c", at(0, 0, np.inf)), ValueError, ("'c' has 1 infinite", "cell_")),
    Case("a stale map", in_place(stale_subset), MosaicAlignmentError, ("'b' has 10 cells", r"update\(\)")),
    Case("stale order", in_place(stale_order), MosaicAlignmentError, ("'b'", r"update\(\)")),
    Case("repeated cells", repeated_cells, MosaicAlignmentError, ("'b' has repeated", "'twin'"), NO_KEYS),
    Case("a modality without cells", with_modality("b", lambda mod: mod[:0]), ValueError, ("'b' has no cell",)),
]
"""Wrong at set-up and in a query alike."""

SETUP = [
    *ALWAYS,
    Case(
        "repeated variables",
        with_modality("b", named("var_names", (1, 0), (3, 2))),
        ValueError,
        ("Variable names of modality 'b' are not unique", "'b_00', 'b_02'", "make_unique"),
    ),
    Case(
        "negative counts",
        with_values("a", at(0, 1, -2)),
        ValueError,
        ("'nb' of modality 'a' needs counts", "1 values are negative", "gaussian"),
        {"modalities": COUNTS},
    ),
    Case(
        "fractional counts",
        with_values("b", at(0, 1, 0.25)),
        ValueError,
        ("'nb' of modality 'b' needs counts", r"not integers \(such as 0.25\)", "layer"),
        {"modalities": COUNTS},
    ),
    Case(
        "cells without any modality",
        lambda m: m,
        MosaicAlignmentError,
        (r"\d+ cells were measured in none of the modalities 'b', 'c'", "cell_", "Remove them"),
        {"modalities": ["b", "c"]},
    ),
    Case(
        "an unknown likelihood",
        lambda m: m,
        ValueError,
        ("'normal'", "'nb'", "'gaussian'", "modality 'c'"),
        {"modalities": {"a": "nb", "b": "nb", "c": "normal"}},
    ),
    Case(
        "an unknown modality",
        lambda m: m,
        KeyError,
        ("'atac' not found; available: 'a', 'b', 'c'",),
        {"modalities": ["a", "atac"]},
    ),
    Case("one modality", lambda m: m, ValueError, ("at least two modalities, found 'a'",), {"modalities": ["a"]}),
    Case(
        "an unknown layer",
        lambda m: m,
        KeyError,
        ("'b' has no layer 'counts'",),
        {"modalities": {"a": None, "b": Modality(layer="counts"), "c": None}},
    ),
    Case(
        "an unknown encoder input",
        lambda m: m,
        KeyError,
        ("'b'", "'X_pca' not found"),
        {"modalities": {"a": None, "b": Modality(encoder_input="X_pca"), "c": None}},
    ),
    Case("an unknown batch column", lambda m: m, KeyError, ("'donor'", "'batch'"), {"batch_key": "donor"}),
    Case(
        "a batch inside modalities",
        in_place(lambda m: m["a"].obs.__setitem__("donor", "x")),
        KeyError,
        ("'donor'", "'a'", "coalesce_obs"),
        {"batch_key": "donor"},
    ),
    Case(
        "a missing batch",
        set_obs("batch", lambda m: m.obs["batch"].where(np.arange(m.n_obs) != 4)),
        ValueError,
        ("missing for 1 cells", "cell_", "Fill it in"),
    ),
    Case("an unknown label column", lambda m: m, KeyError, ("'celltype'", "'label'"), {"labels_key": "celltype"}),
    Case(
        "labels that are all unknown",
        set_obs("label", lambda m: "unknown"),
        ValueError,
        ("nothing but 'unknown'", "labels_key"),
    ),
    Case(
        "a feature mask without batches",
        in_place(lambda m: m["a"].varm.__setitem__("seen", np.ones((m["a"].n_vars, 2), dtype=bool))),
        TypeError,
        ("'seen'", "'a'", "DataFrame"),
        {"modalities": {"a": Modality(feature_mask="seen"), "b": None, "c": None}},
    ),
]

QUERY = [
    *ALWAYS,
    Case(
        "reordered variables",
        with_modality("b", lambda mod: mod[:, ::-1]),
        ValueError,
        ("'b' differs", "another order", "position 0", "'b_19' != 'b_00'", "get_var_names"),
    ),
    Case(
        "missing variables",
        with_modality("b", lambda mod: mod[:, 3:]),
        ValueError,
        ("'b' differs", "3 of 20 expected variables are missing", "'b_00', 'b_01', 'b_02'"),
    ),
    Case(
        "extra variables",
        with_modality("b", lambda mod: more_variables(mod)),
        ValueError,
        ("'b' differs", "21 variables, expected 20", "'new'"),
    ),
    Case(
        "an unseen batch",
        set_obs("batch", lambda m: ["batch_9"] * m.n_obs),
        ValueError,
        ("'batch'", "not trained on: 'batch_9'", "known: 'batch_0', 'batch_1', 'batch_2'"),
    ),
    Case("no batch", in_place(lambda m: m.obs.__delitem__("batch")), KeyError, ("no column 'batch'",)),
    Case("negative counts", with_values("a", at(0, 1, -2)), ValueError, ("modality 'a' needs counts", "negative")),
    Case("fractions", with_values("b", at(0, 1, 0.5)), ValueError, ("modality 'b' needs counts", "not integers")),
    Case(
        "none of the modalities",
        lambda m: rebuilt(m, {"x": m["a"], "y": m["b"]}),
        KeyError,
        ("one of the modalities 'a', 'b', 'c'", "'x', 'y'"),
    ),
    Case(
        "cells of an unknown modality only",
        lambda m: rebuilt(m, {"b": m["b"], "y": m["a"]}),
        MosaicAlignmentError,
        ("measured in none of the modalities 'b'", "cell_"),
    ),
]


def more_variables(mod: AnnData) -> AnnData:
    wide = mod[:, [*range(mod.n_vars), 0]].copy()
    wide.var_names = [*mod.var_names, "new"]
    return wide


def check_message(error: BaseException, says: tuple[str, ...]) -> None:
    message = str(error.args[0])
    for part in says:
        assert re.search(part, message), f"{part!r} is not in: {message}"
    assert "\n" not in message
    assert "np.str_" not in message
    assert len(message) < 500
    assert message.rstrip().endswith((".", "`"))


@pytest.mark.parametrize("case", SETUP, ids=lambda case: case.name)
def test_set_up_says_what_is_wrong_and_changes_nothing(one_spec, case):
    mdata = case.spoil(contract_mosaic())
    before = snapshot(mdata)
    with pytest.raises(case.error) as error:
        one_spec.setup(mdata, **case.setup)
    check_message(error.value, case.says)
    assert_same(snapshot(mdata), before)
    assert not set(SCVI_IDS) & set(mdata.uns)


@pytest.mark.parametrize("case", QUERY, ids=lambda case: case.name)
def test_a_query_says_what_is_wrong_and_changes_nothing(trained_one, tmp_path, case):
    model, folder = trained_one.model, tmp_path / "model"
    model.save(folder)
    mdata = case.spoil(contract_mosaic())
    if case.setup == NO_KEYS:
        mdata.obs["batch"] = "batch_0"
    before = snapshot(mdata)
    with pytest.raises(case.error) as error:
        model.get_latent_representation(mdata)
    check_message(error.value, case.says)
    with pytest.raises(case.error) as error:
        type(model).load(folder, mdata)
    check_message(error.value, case.says)
    assert_same(snapshot(mdata), before)


def test_labels_of_a_query_do_not_matter(trained_one):
    model, mdata = trained_one.model, contract_mosaic()
    expected = model.get_latent_representation(mdata)
    odd = contract_mosaic()
    odd.obs["label"] = "odd"
    np.testing.assert_array_equal(model.get_latent_representation(odd), expected)


def test_a_map_that_becomes_stale_after_set_up_is_noticed(one_spec, mosaic):
    model = one_spec.build(mosaic)
    stale_subset(mosaic)
    with pytest.raises(MosaicAlignmentError, match=r"'b' has 10 cells.*update"):
        one_spec.fit(model)
    with (
        pytest.warns(UserWarning, match="untrained"),
        pytest.raises(MosaicAlignmentError, match=r"'b' has 10 cells.*update"),
    ):
        model.get_latent_representation()


@pytest.mark.parametrize("indices", [[0, 999], [-1], np.ones(3, dtype=bool)])
def test_indices_outside_the_data_are_refused(trained_one, indices):
    with pytest.raises(ValueError, match="`indices`"):
        trained_one.model.get_latent_representation(indices=indices)


def test_unknown_modalities_are_refused(trained_one):
    with pytest.raises(ValueError, match="'a', 'b', 'c', found 'atac'"):
        trained_one.model.get_latent_representation(modality="atac")


def test_anndata_gets_a_pointer_to_mudata(one_spec, mosaic):
    with pytest.raises(NotImplementedError, match="setup_mudata"):
        one_spec.cls.setup_anndata(mosaic["a"])


def test_a_model_without_set_up_is_refused(one_spec, mosaic):
    with pytest.raises(ValueError, match="setup_mudata"):
        one_spec.cls(mosaic)


def test_an_untrained_model_warns(one_spec, mosaic):
    model = one_spec.build(mosaic)
    with pytest.warns(UserWarning, match="untrained"):
        model.get_latent_representation()


# ------------------------------------------------------------------------------ pairs


def test_unpaired_data_are_refused_before_training_if_a_term_needs_pairs(spec):
    mdata = make_mosaic(n_obs=90, pattern="diagonal")
    model = spec.build(mdata)
    if not spec.needs_pairs:
        spec.fit(model, max_epochs=1)
        assert np.isfinite(model.get_latent_representation()).all()
        return
    weights = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    with pytest.raises(ValueError, match="no cell") as error:
        spec.fit(model)
    assert model.history is None
    assert "switch the term off" in str(error.value)
    assert all((p == weights[name]).all() for name, p in model.module.named_parameters())
    model = spec.fit(spec.build(mdata, **spec.unpaired_kwargs), max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


def test_a_modality_without_pairs_is_named_before_training_if_a_term_needs_them(one_spec):
    mdata = make_mosaic(n_obs=450, pattern="paired")
    cells = np.arange(450)
    mdata = rebuilt(mdata, {"a": mdata["a"][cells < 420], "b": mdata["b"][cells < 410], "c": mdata["c"][cells >= 420]})
    if one_spec.needs_pairs:
        with pytest.raises(ValueError, match=r"'c'.*switch the term off"):
            one_spec.fit(one_spec.build(mdata))
    model = one_spec.fit(one_spec.build(mdata, **one_spec.unpaired_kwargs), max_epochs=1)
    assert np.isfinite(model.get_latent_representation()).all()


# ------------------------------------------------------------------- the user's object


def test_nothing_of_the_users_object_changes_through_the_whole_life_of_a_model(plan_spec):
    spec = plan_spec
    mdata, query = contract_mosaic(), contract_mosaic(seed=1)
    for data in (mdata, query):
        data.obsm["X_umap"] = np.zeros((data.n_obs, 2))
        data.uns["colors"] = {"label": ["red", "blue"]}
        for mod in data.mod.values():
            mod.obs["depth"] = np.arange(mod.n_obs, dtype=float)
            mod.layers["raw"] = mod.X.copy()
    before = snapshot(mdata), snapshot(query)
    model = spec.fit(spec.build(mdata), max_epochs=1)
    model.get_latent_representation()
    model.get_latent_representation(query, modality="a", indices=[3, 1])
    assert_same(snapshot(mdata), before[0])
    assert_same(snapshot(query), before[1])
    for data in (mdata, query):
        assert [key for key in data.uns if key not in before[0]["uns"]] == list(SCVI_IDS)
