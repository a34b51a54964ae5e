from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from _compare import by_name
from _factories import make_mosaic
from _mca import build_mca, fit_mca, options

from smalti import simulate
from smalti._mudata import build_mudata, no_pull
from smalti.data import Modality, presence
from smalti.metrics import foscttm, recall_at_k
from smalti.model import MCAWeights
from smalti.model.mca import _memory

ROWS = ("unimodal_fusion", "unimodal_unimodal", "channel_root", "unimodal_channel")
COUNTS = {"a": "nb", "b": "poisson", "c": "gaussian"}


def root_latent(model):
    return model.get_latent_representation(block="root")


@pytest.fixture(scope="module")
def model():
    return fit_mca(make_mosaic(), COUNTS, weights=MCAWeights(reconstruction=0.1))


# ---------------------------------------------------------------------- embeddings


def test_the_embedding_of_a_modality_is_the_same_whatever_else_was_measured(model):
    mdata, here = model.adata, presence(model.adata)
    before = model.get_unimodal_embeddings()
    for column, name in enumerate("abc"):
        keep = here.copy()
        keep[np.ix_(here[:, column], np.arange(3) != column)] = False
        reduced = simulate.drop(mdata, keep)
        after = model.get_unimodal_embeddings(reduced)[name]
        cells = mdata.obs_names[here[:, column]]
        found = by_name(after, reduced.obs_names, cells)
        assert np.abs(found - before[name][here[:, column]]).max() < 1e-5
        assert np.isnan(before[name][~here[:, column]]).all()


def test_embeddings_have_unit_length(model):
    for z in (root_latent(model), *model.get_unimodal_embeddings().values()):
        norms = np.linalg.norm(z, axis=1)
        np.testing.assert_allclose(norms[~np.isnan(norms)], 1, rtol=1e-5)


def test_a_channel_is_a_latent_and_cells_without_its_modalities_get_nan(model):
    here, root = presence(model.adata), root_latent(model)
    np.testing.assert_array_equal(model.get_latent_representation(block=("c", "a", "b")), root)
    pair = model.get_latent_representation(block=["b", "a"])
    np.testing.assert_array_equal(np.isnan(pair).any(1), ~here[:, :2].any(1))
    known = here[:, :2].any(1)
    assert np.abs(pair - root)[known].max() > 1e-3
    for column, name in enumerate("abc"):
        alone = model.get_latent_representation(block=name)
        np.testing.assert_allclose(alone, model.get_unimodal_embeddings()[name], atol=1e-6)
        np.testing.assert_array_equal(np.isnan(alone).any(1), ~here[:, column])


def test_the_observed_channel_is_that_of_exactly_what_a_cell_has(model):
    here, found = presence(model.adata), model.get_latent_representation(block="observed")
    for i, row in enumerate(here):
        names = [name for name, present in zip("abc", row, strict=True) if present]
        expected = model.get_latent_representation(block=names, indices=[i])[0]
        np.testing.assert_allclose(found[i], expected, atol=1e-5)


def test_the_observed_channel_falls_back_on_the_root_where_there_is_no_such_channel():
    model = fit_mca(make_mosaic(), COUNTS, variant="mma", train={"max_epochs": 1})
    here, root = presence(model.adata), root_latent(model)
    found, several = model.get_latent_representation(block="observed"), here.sum(1) > 1
    np.testing.assert_allclose(found[several], root[several], atol=1e-5)
    for column, name in enumerate("abc"):
        only = here[:, column] & ~several
        np.testing.assert_allclose(found[only], model.get_unimodal_embeddings()[name][only], atol=1e-5)


def test_channels_without_fusion_tokens_train_and_are_stored(tmp_path):
    model = fit_mca(make_mosaic(), COUNTS, variant="eao", train={"max_epochs": 2})
    z = root_latent(model)
    assert np.isfinite(z).all()
    assert not hasattr(model.module.transformer, "fusion")
    model.save(tmp_path / "eao")
    np.testing.assert_allclose(
        type(model).load(tmp_path / "eao", model.adata).get_latent_representation(block="root"), z
    )


def test_a_query_without_a_modality_is_told_which_channel_it_shares(model, caplog):
    query = build_mudata({name: model.adata[name].copy() for name in ("a", "b")}, obs=model.adata.obs)
    with caplog.at_level("WARNING", logger="smalti"):
        model.get_latent_representation(model.adata, block="root")
        model.get_latent_representation(query, block=("a", "b"))
        assert "channel" not in caplog.text
        model.get_latent_representation(query, block="root")
    assert "no 'c'" in caplog.text
    assert "`block=('a', 'b')`" in caplog.text


def test_unknown_channels_are_refused(model):
    for channel in ("rna", ("a", "rna")):
        with pytest.raises(ValueError, match="one of 'joint', 'aligned', 'root', 'observed', 'a', 'b', 'c'"):
            model.get_latent_representation(block=channel)
    with pytest.raises(ValueError, match="channel of 'a', 'b' does not read 'c'"):
        model.get_latent_representation(block=("a", "b"), modality="c")
    mma = build_mca(make_mosaic(), variant="mma")
    mma.is_trained_ = True
    with pytest.raises(ValueError, match="no channel of 'a', 'b', only channels of 3 modalities.*cardinalities"):
        mma.get_latent_representation(block=("a", "b"))


# ----------------------------------------------------------------------- retrieval


def test_retrieval_finds_the_cells_of_largest_cosine(model):
    mdata, here = model.adata, presence(model.adata)
    queries, gallery = model.get_unimodal_embeddings()["a"][here[:, 0]], root_latent(model)
    cosine = queries @ gallery.T
    found = model.retrieve("a", 5, block="root")
    assert list(found.query_names) == list(mdata.obs_names[here[:, 0]])
    best = np.sort(cosine, axis=1)[:, ::-1][:, :5]
    np.testing.assert_allclose(found.scores, best, atol=1e-5)
    np.testing.assert_allclose(np.take_along_axis(cosine, found.positions, 1), best, atol=1e-5)
    np.testing.assert_array_equal(found.names, mdata.obs_names.to_numpy()[found.positions])
    frame = found.to_frame()
    assert list(frame.columns) == ["query", "rank", "cell", "score"]
    assert frame["rank"].tolist()[:6] == [1, 2, 3, 4, 5, 1]


def test_cells_are_found_in_the_space_for_matching_by_default():
    mdata = make_mosaic()
    model = build_mca(mdata)
    model.train(max_epochs=2, progress=False, accelerator="cpu")
    assert model.module.matching.ready
    here = presence(mdata)
    asks = model.get_latent_representation(block="aligned", modality="a")[here[:, 0]]
    for block, gallery in (("aligned", None), ("b", "b")):
        candidates = model.get_latent_representation(block="aligned", modality=gallery)
        cosine = np.where(np.isfinite(candidates).all(1), asks @ candidates.T, -np.inf)
        found = model.retrieve("a", 4, block=block)
        np.testing.assert_allclose(found.scores, np.sort(cosine, axis=1)[:, ::-1][:, :4], atol=1e-5)


def test_only_cells_with_the_embedding_are_in_the_gallery(model):
    here = presence(model.adata)
    found = model.retrieve("a", 10, block="b")
    assert here[found.positions.ravel(), 1].all()
    assert here[found.positions.ravel(), 1].sum() == found.positions.size
    assert here.any(1)[model.retrieve("c", 10).positions.ravel()].all()
    with pytest.raises(ValueError, match=f"`k` to be at most {here[:, 1].sum()}, the number of cells in the gallery"):
        model.retrieve("a", 80, block="b")


def test_a_cell_can_be_kept_from_answering_itself(model):
    with_self, without = model.retrieve("a", 6), model.retrieve("a", 5, exclude_self=True)
    assert (with_self.names == with_self.query_names.to_numpy()[:, None]).any()
    assert not (without.names == without.query_names.to_numpy()[:, None]).any()
    for row in range(len(without.names)):
        kept = [name for name in with_self.names[row] if name != with_self.query_names[row]]
        assert list(without.names[row]) == kept[:5]


def test_other_cells_can_be_searched(model):
    query = simulate.drop(model.adata, np.eye(3, dtype=bool)[np.arange(84) % 3] | ~presence(model.adata))
    found = model.retrieve("b", 3, mdata=model.adata, indices=[5, 3, 1, 0], gallery=query)
    here = presence(model.adata)[[5, 3, 1, 0], 1]
    assert list(found.query_names) == list(model.adata.obs_names[[5, 3, 1, 0]][here])
    assert set(found.names.ravel()) <= set(query.obs_names)
    with pytest.raises(ValueError, match="`query_modality` to be one of 'a', 'b', 'c'"):
        model.retrieve("rna")


# --------------------------------------------------------------------- translation


def test_translation_needs_decoders(model):
    out = model.translate("a", "b")
    assert out.values.shape == (presence(model.adata)[:, 0].sum(), 20)
    assert (out.values > 0).all()
    with pytest.raises(ValueError, match="no decoders.*MCAWeights"):
        fit_mca(make_mosaic(), COUNTS, train={"max_epochs": 1}).translate("a", "b")


def test_translation_reads_the_source_alone(model):
    mdata, here = model.adata, presence(model.adata)
    keep = here.copy()
    keep[np.ix_(here[:, 0], [False, True, True])] = False
    reduced = simulate.drop(mdata, keep)
    cells = mdata.obs_names[here[:, 0]]
    expected = model.translate("a", "c")
    found = model.translate(None, "c", mdata=reduced)
    np.testing.assert_allclose(by_name(found.values, found.obs_names, cells), expected.values, atol=1e-4)


# ---------------------------------------------------------------- tokens and memory


def test_features_that_a_panel_did_not_measure_do_not_matter():
    mdata = make_mosaic(n_obs=120)
    for name in ("a", "b"):
        mask = pd.DataFrame(True, index=mdata[name].var_names, columns=["batch_0", "batch_1"])
        mask.iloc[: mdata[name].n_vars // 2, 1] = False
        mdata[name].varm["panel"] = mask
    spec = {"likelihood": "nb", "encoder_input": "counts", "feature_mask": "panel"}
    kinds = options(tokens={"a": "patches", "b": "columns"}, n_tokens=6)
    model = fit_mca(mdata, {"a": spec, "b": spec, "c": "gaussian"}, options=kinds, train={"max_epochs": 1})
    batch = model.adata_manager.create_torch_dataset()[np.arange(mdata.n_obs)]
    second = (mdata.obs["batch"] == "batch_1").to_numpy()
    for name, tokens in (("a", 3), ("b", 10)):
        here = model.module.inputs.present(batch)[name]
        mask = model.module._token_mask(batch, name, here).numpy()
        unseen = ~mask
        assert not unseen[~second[here.numpy()]].any()
        assert (unseen[second[here.numpy()]].sum(1) == tokens).all()
    before = root_latent(model)
    for name in ("a", "b"):
        x = mdata[name].X.toarray()
        rows = (mdata.obs["batch"].reindex(mdata[name].obs_names) == "batch_1").to_numpy()
        x[np.ix_(rows, np.arange(mdata[name].n_vars) < mdata[name].n_vars // 2)] += 50
        mdata[name].X = x
    np.testing.assert_allclose(root_latent(model), before, atol=1e-5)


def test_tokens_that_cannot_fit_are_refused_before_training_with_size_and_remedy(monkeypatch):
    model = build_mca(make_mosaic(), {name: Modality(likelihood=COUNTS[name]) for name in "abc"})
    monkeypatch.setattr(_memory, "available_memory", lambda: 10_000)
    weights = {name: p.detach().clone() for name, p in model.module.named_parameters()}
    with pytest.raises(ValueError, match=r"batch of 32 cells with 20 tokens.*GB.*'a' has 4 tokens.*`batch_size`"):
        model.train(max_epochs=1, batch_size=32, progress=False, accelerator="cpu")
    assert all(torch.equal(p, weights[name]) for name, p in model.module.named_parameters())


def test_hidden_modalities_leave_every_cell_one():
    from smalti.model.mca._module import keep_one

    where = torch.rand(200, 4) < 0.5
    where[:, 0] |= ~where.any(1)
    for share in (0.0, 0.3, 1.0):
        left = keep_one(where, torch.rand(200, 4) < share)
        assert not (left & ~where).any()
        assert left.any(1).all()
        if share == 0:
            assert (left.sum(1) == 1).all()
    assert not keep_one(torch.zeros(3, 4, dtype=torch.bool), torch.ones(3, 4, dtype=torch.bool)).any()


# ----------------------------------------------------------------- how it is trained


def test_linear_maps_decay_and_norms_biases_and_learned_tokens_do_not():
    model = build_mca(
        make_mosaic(), options=options(tokens={"a": "columns", "b": "vector"}), weights={"reconstruction": 0.1}
    )
    model.train(max_epochs=1, progress=False, accelerator="cpu")
    decaying, free = model.trainer.optimizers[0].param_groups
    names = {id(p): name for name, p in model.module.named_parameters()}
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.01, 0.0)
    kept = {names[id(p)] for p in free["params"]}
    assert {"transformer.fusion", "transformer.queries", "log_inverse_temperature", "tokens.c.bias"} <= shorter(kept)
    assert {"transformer.blocks.0.norm.weight", "transformer.norm.weight", "tokens.a.identity"} <= shorter(kept)
    decayed = shorter({names[id(p)] for p in decaying["params"]})
    assert {
        "transformer.blocks.0.qkv.weight",
        "skips.a.linear.weight",
        "tokens.c.weight",
        "decoding.decoders.b.weight",
    } <= decayed
    assert len(kept) + len(decayed) == sum(p.requires_grad for p in model.module.parameters())


def shorter(names):
    """Names of weights without the containers that hold parts by modality."""
    return {name.replace(".members.m_", ".") for name in names}


def half_precision_gap(accelerator: str) -> float:
    """Largest distance between losses of single and half precision, over all terms and two epochs."""
    losses = []
    for precision in ("32-true", "bf16-mixed"):
        model = build_mca(make_mosaic(n_obs=200), COUNTS, options=options(dropout_rate=0.0, input_dropout=0.0))
        plan = {"accelerator": accelerator, "trainer_kwargs": {"precision": precision}}
        model.train(max_epochs=2, batch_size=64, progress=False, **plan)
        assert all(p.dtype == torch.float32 for p in model.module.parameters())
        losses.append(np.concatenate([model.history[f"{row}_train"].to_numpy() for row in ROWS]))
        assert np.isfinite(root_latent(model)).all()
    return float(np.abs(losses[0] - losses[1]).max() / losses[0].max())


def test_training_in_half_precision_takes_the_course_of_single_precision():
    gap = half_precision_gap("cpu")
    assert 0 < gap < 0.02


@pytest.mark.gpu
def test_training_in_half_precision_on_a_gpu_takes_the_course_of_single_precision():
    gap = half_precision_gap("gpu")
    assert 0 < gap < 0.02


# ---------------------------------------------------------------- what pairs teach


def held_out_recall(*, shuffled: bool) -> tuple[float, float]:
    """Return recall@10 among 100 held-out cells, from one modality in the fusion of the others, and chance."""
    mdata = simulate.factor_views(600, n_features=(30, 30, 30), n_shared=5, n_private=2, noise=0.5, random_state=0)
    test = np.arange(600) >= 500
    if shuffled:  # training cells only
        rng = np.random.default_rng(0)
        for name in ("b", "c"):
            mdata.mod[name].X[~test] = mdata.mod[name].X[~test][rng.permutation(500)]
    train = {"max_epochs": 40, "batch_size": 100, "train_size": 1.0}
    with no_pull():
        source, query = mdata[~test].copy(), mdata[test].copy()
    model = fit_mca(source, options=options(n_latent=32, dropout_rate=0.0), train=train)
    x = model.get_unimodal_embeddings(query)["a"]
    y = model.get_latent_representation(query, block=("b", "c"))
    return recall_at_k(x, y, k=10, metric="cosine", direction="x_to_y")[10], 0.1


def test_training_starts_from_linear_cca_so_that_pairs_are_near_from_the_first_step():
    mdata = simulate.factor_views(400, n_features=(40, 30), n_shared=5, n_private=2, random_state=0)
    found = {}
    for skip in (True, False):
        plan = {"plan_kwargs": {"lr": 1e-7}, "max_epochs": 1}
        model = fit_mca(mdata, options=options(skip=skip), train=plan)
        found[skip] = foscttm(*model.get_unimodal_embeddings().values(), metric="cosine")
    assert found[True] < 0.1
    assert found[False] > 0.3


@pytest.mark.slow
def test_a_modality_finds_the_fusion_of_the_others_in_cells_never_seen():
    found, chance = held_out_recall(shuffled=False)
    assert found > 4 * chance


@pytest.mark.slow
def test_retrieval_is_at_chance_when_training_pairs_are_shuffled():
    found, chance = held_out_recall(shuffled=True)
    assert found == pytest.approx(chance, abs=0.08)
