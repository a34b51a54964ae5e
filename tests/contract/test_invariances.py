"""What latents depend on: cells and names; not order, storage or anything that was not measured."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from _compare import assert_same_weights, by_name, dense, rebuilt
from _factories import STORAGES, as_storage, make_mosaic, numbers, stamps
from contract.conftest import contract_mosaic

from smalti import simulate
from smalti._mudata import build_mudata
from smalti.data import DenseReader, presence

CLOSE = 1e-5
"""Cells are computed in other groups, so sums are taken in another order."""


# -------------------------------------------------------------------------- alignment


def test_minibatches_hold_the_rows_of_their_cells(trained, rng):
    mdata, model = trained.mdata, trained.model
    cells = rng.permutation(mdata.n_obs)
    seen = []
    for batch in model.iterate(indices=cells, batch_size=17):
        names = mdata.obs_names[batch["index"].numpy()]
        seen.extend(names)
        for i, modality in enumerate(model.modalities):
            rows, here = dense(batch["values"][modality], mdata[modality].n_vars), batch["present"][:, i].numpy()
            assert list(here) == [name in mdata[modality].obs_names for name in names]
            full = here & (np.abs(rows).sum(1) > 0)
            np.testing.assert_array_equal(stamps(rows)[full], numbers(names)[full])
            assert not rows[~here].any()
    assert seen == list(mdata.obs_names[cells])


def test_the_latent_of_a_cell_is_that_of_a_mosaic_of_this_cell_alone(trained):
    mdata, here = trained.mdata, presence(trained.mdata)
    _, first = np.unique(here, axis=0, return_index=True)
    for i in first:
        name = mdata.obs_names[i]
        alone = rebuilt(mdata, {m: mod[[name]] for m, mod in mdata.mod.items() if name in mod.obs_names})
        latent = trained.model.get_latent_representation(alone)
        np.testing.assert_allclose(latent, trained.latent[[i]], atol=CLOSE)
    assert len(np.unique(trained.latent.round(4), axis=0)) > 0.9 * mdata.n_obs, (
        "latents that are all alike show nothing"
    )


def test_indices_give_the_rows_of_all_cells(trained, rng):
    model, latent = trained.model, trained.latent
    cells = rng.permutation(len(latent))[:30]
    np.testing.assert_allclose(model.get_latent_representation(indices=cells), latent[cells], atol=CLOSE)
    chosen = rng.random(len(latent)) < 0.3
    np.testing.assert_allclose(model.get_latent_representation(indices=chosen), latent[chosen], atol=CLOSE)


@pytest.mark.parametrize("size", [1, 7, "all but one"])
def test_the_size_of_batches_changes_nothing_even_if_the_last_has_one_cell(trained, size):
    n = trained.mdata.n_obs
    size = n - 1 if size == "all but one" else size
    found = trained.model.get_latent_representation(batch_size=size)
    np.testing.assert_allclose(found, trained.latent, atol=CLOSE)


# ---------------------------------------------------------------------------- order


def test_permuting_cells_permutes_latents(trained, rng):
    mdata = trained.mdata
    mixed = rebuilt(mdata, {name: mod[rng.permutation(mod.n_obs)] for name, mod in mdata.mod.items()})
    assert list(mixed.obs_names) != list(mdata.obs_names)
    latent = trained.model.get_latent_representation(mixed)
    np.testing.assert_allclose(by_name(latent, mixed.obs_names, mdata.obs_names), trained.latent, atol=CLOSE)


def test_permuting_modalities_permutes_latents(trained):
    mdata = trained.mdata
    mixed = rebuilt(mdata, {name: mdata[name] for name in reversed(list(mdata.mod))})
    assert list(mixed.mod) != list(mdata.mod)
    assert list(mixed.obs_names) != list(mdata.obs_names)
    latent = trained.model.get_latent_representation(mixed)
    np.testing.assert_allclose(by_name(latent, mixed.obs_names, mdata.obs_names), trained.latent, atol=CLOSE)


def test_names_of_modalities_do_not_matter(trained_plan):
    trained, spec, mdata = trained_plan, trained_plan.spec, contract_mosaic()
    new = {"a": "rna", "b": "foo.bar", "c": "b%2E_dot_/x"}
    other = build_mudata({new[name]: mod for name, mod in mdata.mod.items()}, obs=mdata.obs)
    assert list(other.obs_names) == list(mdata.obs_names)
    modalities = None if spec.modalities is None else {new[name]: value for name, value in spec.modalities.items()}
    spec.setup(other, modalities=modalities)
    model = spec.fit(spec.cls(other, **spec.kwargs))
    np.testing.assert_allclose(model.get_latent_representation(), trained.latent, atol=CLOSE)


# --------------------------------------------------------------------------- absence


def test_the_latent_of_a_modality_is_what_a_cell_gets_that_has_no_other(trained):
    mdata, model = trained.mdata, trained.model
    here = presence(mdata)
    for column, name in enumerate(mdata.mod):
        alone = model.get_latent_representation(modality=name)
        assert np.isnan(alone[~here[:, column]]).all()
        keep = here.copy()
        paired = here[:, column] & (here.sum(1) > 1)
        keep[np.ix_(paired, np.arange(3) != column)] = False
        reduced = simulate.drop(mdata, keep)
        latent = model.get_latent_representation(reduced)
        cells = mdata.obs_names[here[:, column]]
        found = by_name(latent, reduced.obs_names, cells)
        np.testing.assert_allclose(found, alone[here[:, column]], atol=CLOSE)
        assert np.abs(found - trained.latent[here[:, column]])[paired[here[:, column]]].max() > 1e-3, name


def test_dropped_profiles_leave_the_latents_of_other_cells_alone(trained, rng):
    mdata = trained.mdata
    keep = np.ones((mdata.n_obs, 3), dtype=bool)
    paired = np.flatnonzero(presence(mdata).all(1))
    keep[paired[:6], 1] = False
    reduced = simulate.drop(mdata, keep)
    latent = by_name(trained.model.get_latent_representation(reduced), reduced.obs_names, mdata.obs_names)
    others = np.setdiff1d(np.arange(mdata.n_obs), paired[:6])
    np.testing.assert_allclose(latent[others], trained.latent[others], atol=CLOSE)
    assert (np.abs(latent - trained.latent)[paired[:6]].max(1) > 1e-3).any()


def poisoned(read):
    """Wrap ``DenseReader.read`` so that rows of absent cells hold large finite values."""

    def read_poisoned(self, rows):
        out = read(self, rows)
        out[torch.from_numpy(rows < 0)] = 1e4
        read_poisoned.n_rows += int((rows < 0).sum())
        return out

    read_poisoned.n_rows = 0
    return read_poisoned


def test_values_in_rows_of_absent_cells_change_neither_latents_nor_training(spec, monkeypatch):
    def run():
        model = spec.fit(spec.build(as_storage(contract_mosaic(), "dense")))
        alone = model.get_latent_representation(modality="b")
        return model, model.get_latent_representation(), alone

    clean, latent, alone = run()
    monkeypatch.setattr(DenseReader, "read", poisoned(DenseReader.read))
    model, latent_again, alone_again = run()
    assert DenseReader.read.n_rows > 500
    assert_same_weights(model.module, clean.module)
    np.testing.assert_array_equal(latent_again, latent)
    np.testing.assert_array_equal(alone_again, alone)
    for key in clean.history:
        np.testing.assert_array_equal(model.history[key].to_numpy(), clean.history[key].to_numpy(), err_msg=key)


# --------------------------------------------------------------------- empty profiles


def test_a_cell_measured_with_zero_counts_is_present_and_has_a_finite_latent(trained):
    mdata, model = trained.mdata, trained.model
    for name in ("a", "b"):
        empty = mdata[name].obs_names[np.asarray(mdata[name].X.sum(1)).ravel() == 0]
        assert len(empty) == 1
        cell = mdata.obs_names.get_loc(empty[0])
        assert np.isfinite(model.get_latent_representation(modality=name)[cell]).all()
        assert np.isfinite(trained.latent[cell]).all()


def test_a_query_of_nothing_but_empty_profiles_has_finite_latents(trained):
    mdata = contract_mosaic()
    for name in ("a", "b"):
        mdata[name].X = mdata[name].X * 0
    assert np.isfinite(trained.model.get_latent_representation(mdata)).all()


# --------------------------------------------------------------------------- storage


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_changes_no_latent(trained, storage):
    rounded = as_storage(contract_mosaic(), "int")
    expected = trained.model.get_latent_representation(rounded)
    stored = as_storage(rounded, storage, index_dtype=np.int64)
    np.testing.assert_allclose(trained.model.get_latent_representation(stored), expected, atol=CLOSE)


@pytest.mark.parametrize("storage", ["csc_array", "dense"])
def test_storage_changes_no_training(one_spec, storage):
    def train(kind):
        mdata = make_mosaic(likelihood="nb", storage=kind)
        return one_spec.fit(one_spec.build(mdata)).get_latent_representation()

    np.testing.assert_allclose(train(storage), train("csr"), atol=5e-4)


# -------------------------------------------------------------------- fewer modalities


def test_a_query_may_lack_modalities(trained):
    mdata, model = trained.mdata, trained.model
    for names in (["a"], ["c"], ["b", "c"]):
        query = rebuilt(mdata, {name: mdata[name] for name in names})
        latent = model.get_latent_representation(query)
        assert latent.shape == (query.n_obs, trained.latent.shape[1])
        if len(names) == 1:
            expected = by_name(model.get_latent_representation(modality=names[0]), mdata.obs_names, query.obs_names)
            np.testing.assert_allclose(latent, expected, atol=CLOSE)
        absent = next(name for name in mdata.mod if name not in names)
        with pytest.raises(ValueError, match=f"None of the {query.n_obs} cells was measured in modality '{absent}'"):
            model.get_latent_representation(query, modality=absent)
