"""One table of scores for latents of a mosaic: matching, cell types, mixing of batches and of presence, totals."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._validate import check_count, check_keys
from smalti.tl._evaluate_inputs import by_name, patterns, read_column, read_latents
from smalti.tl._evaluate_matching import lacks_single, plan_search
from smalti.tl._evaluate_quality import quality_scores
from smalti.tl._evaluation import MATCHING, Evaluation, place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import ArrayLike

    from smalti.tl._evaluate_inputs import Embedding

logger = logging.getLogger(__name__)


def evaluate(
    mdata: MuData,
    embeddings: str | ArrayLike | Sequence[str] | Mapping[str, Embedding],
    *,
    aligned: Mapping[str, Embedding] | None = None,
    modalities: tuple[str, str] | None = None,
    batch_key: str | None = None,
    labels_key: str | None = None,
    unlabeled_category: str = "unknown",
    layers: Mapping[str, str] | None = None,
    k: int = 10,
    random_state: int = 0,
) -> Evaluation:
    """Score latents of any tool: are partners found, cell types kept, batches and presence patterns mixed.

    Everything that can be said of the data at hand is said, and the notes of the result say why the rest cannot. What
    each score means: :doc:`/user_guide/scores`.

    Parameters
    ----------
    mdata
        The mosaic that the latents belong to.
    embeddings
        Key of ``mdata.obsm``, several keys, an array, or a mapping of a name of the method to one of: a key; an array
        ``(n_obs, d)``; or ``{modality: (n_obs, d)}``, NaN where absent. One latent of all cells is enough. Latents from
        single modalities (``<key>_<modality>`` in ``mdata.obsm``, or the mapping) are taken for matching if they are
        there; without a joint latent, their mean stands in for it.
    aligned
        The same for matching alone, by name of the method, where another latent is meant for it.
    modalities
        The two whose pairs are scored; may be left out if there are just two.
    batch_key
        Column of ``mdata.obs``. Partners are then sought among the cells of the same batch, and mixing is scored.
    labels_key
        Column of ``mdata.obs`` with cell types, for the scores that need them.
    unlabeled_category
        Value of that column that means "no label", besides missing values.
    layers
        Layer with raw counts by modality, ``.X`` by default: partners are also sought among cells of equal depth.
    k
        Neighbours of the matching score and length of the list for recall; fewer if there are fewer pairs.
    random_state
        Seed of clusterings and draws.

    Returns
    -------
    :class:`Evaluation`, a row per method and a column per score.

    Raises
    ------
    KeyError
        If an embedding, column, layer or modality does not exist.
    ValueError
        If an embedding has another number of rows than cells, or lacks values for a pair.

    Notes
    -----
    Scores are in [0, 1] and higher is better unless said otherwise.

    - ``foscttm``, ``foscttm_depth`` (lower is better), ``matching_k<k>``, ``recall_at_<k>``: partners found by cosine,
      see :func:`smalti.metrics.matching_scores`; ``transfer <a> -> <b>`` and back: accuracy of types carried over by 15
      neighbours; ``mixing``: of the modalities of scored pairs. Pairs that :func:`smalti.simulate.hide_pairs` hid are
      scored; without any, cells with both modalities, if there are latents from each alone, with a warning.
    - ``nmi``, ``ari`` (k-means), ``nmi_leiden``, ``ari_leiden``, ``asw_types``, ``clisi``, their mean ``bio``, and
      ``connectivity``, see :func:`smalti.metrics.biology_scores`.
    - ``ilisi_batch``, ``asw_batch``, ``kbet_batch``, ``batch``, see :func:`smalti.metrics.mixing_scores`.
    - ``ilisi_presence``, ``asw_presence``, ``presence``: the same for presence patterns, in batches that have several.
    - ``total``, see :func:`smalti.metrics.total_score`.
    """
    check_count(k, "k")
    named, apart = by_name(embeddings), dict(aligned or {})
    check_keys(apart, list(named), "Method of `aligned`")
    labels = None if labels_key is None else read_column(mdata, labels_key, unlabeled_category)
    batch = None if batch_key is None else read_column(mdata, batch_key, None)
    pattern = patterns(mdata)
    notes: dict[str, str] = {}
    search = plan_search(mdata, modalities, batch, layers or {}, notes, k=k, seed=random_state)
    rows: dict[str, dict[str, float]] = {}
    blind: dict[str, float] = {}
    for name, embedding in named.items():
        latents = read_latents(mdata, name, embedding)
        scores: dict[str, float] = {}
        if search is not None:
            space = read_latents(mdata, name, apart[name]) if name in apart else latents
            if reason := lacks_single(name, space, search.pairs):
                notes[f"{MATCHING}, {name}"] = reason
            else:
                scores, chance = search.scores(mdata, space, labels, seed=random_state)
                blind |= chance
        rows[name] = scores | quality_scores(latents, labels, batch, pattern, notes, seed=random_state)
    table = pd.DataFrame.from_dict(rows, orient="index", dtype=float)
    table = table[sorted(table.columns, key=place)]
    pairs = search.pairs if search is not None and blind else None
    if pairs is not None and not pairs.held_out:
        logger.warning(
            "No pairs are hidden, so %d cells are scored whose pairing the embeddings may have been trained on. For a "
            "test, train on `sm.simulate.hide_pairs(mdata)`.",
            len(pairs.rows[0]),
        )
    return Evaluation(
        scores=table,
        chance=pd.Series({c: blind.get(c, 0.0 if c in ("ari", "ari_leiden") else np.nan) for c in table}, dtype=float),
        modalities=None if pairs is None else pairs.modalities,
        n_pairs=0 if pairs is None else len(pairs.rows[0]),
        held_out=pairs is not None and pairs.held_out,
        batch_key=batch_key,
        notes=notes,
    )
