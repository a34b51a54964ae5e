from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import smalti.planning._links as module
from smalti.planning import link_size
from smalti.simulate import factor_views, hide_pairs


@pytest.fixture
def unpaired():
    return hide_pairs(factor_views(150, n_features=(40, 40), n_shared=4, n_clusters=3), 1.0)


@pytest.fixture
def links(unpaired):
    return pd.DataFrame({name: unpaired[name].var_names[:32] for name in unpaired.mod})


def better_with_links(mdata, names, links, seed, options):
    """Latents of both modalities with an error that falls with the number of links."""
    rng = np.random.default_rng([seed, len(links)])
    shared = mdata.obsm["shared"]
    return [shared + 3 / len(links) ** 0.5 * rng.normal(size=shared.shape) for _ in names]


@pytest.mark.parametrize("target", ["foscttm", "labels"])
def test_links_are_thinned_and_the_answer_is_in_links(unpaired, links, target, monkeypatch):
    monkeypatch.setattr(module, "_align", better_with_links)
    plan = link_size(unpaired, links, target=target, labels_key="label", n_draws=3, sizes=[4, 8, 16, 32])
    assert plan.unit == "links"
    assert plan.n_now == 32
    assert plan.curve.groupby("n").size().to_dict() == dict.fromkeys([4, 8, 16, 32], 3)
    assert plan.fit is None or plan.fit.lower_is_better == (target == "foscttm")
    means = plan.curve.groupby("n")["score"].mean()
    assert (means[32] < means[4]) == (target == "foscttm")


def test_fewer_links_are_a_part_of_more(unpaired, links, monkeypatch):
    seen = []
    monkeypatch.setattr(module, "_align", lambda *a: seen.append(set(a[2].iloc[:, 0])) or better_with_links(*a))
    link_size(unpaired, links, target="foscttm", n_draws=1, sizes=[4, 32])
    assert seen[0] < seen[1]


def test_the_alignment_itself_runs_on_few_links(unpaired, links):
    latents = module._align(unpaired, list(unpaired.mod), links.iloc[:6], 0, None)
    assert [z.shape[0] for z in latents] == [unpaired.n_obs] * 2


def test_labels_must_be_named(unpaired, links):
    with pytest.raises(ValueError, match="labels_key"):
        link_size(unpaired, links)
    with pytest.raises(KeyError, match="kind"):
        link_size(unpaired, links, labels_key="kind")
