"""Do the selected features matter: what is lost without them, beside as many others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp

from smalti._errors import NotFittedError
from smalti._mudata import build_mudata
from smalti._validate import check_count, check_keys
from smalti.data import matrix_of, presence
from smalti.metrics import matching_scores

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from smalti.model.base import MosaicModel

MIN_PAIRS = 30


@dataclass(frozen=True, kw_only=True)
class DeletionTest:
    """What :func:`deletion_test` found; FOSCTTM of held-out pairs, lower is better, 0.5 is chance."""

    modality: str
    """Whose features were deleted."""
    partner: str
    """The modality that they were matched with."""
    n_features: int
    """Features deleted."""
    n_pairs: int
    """Held-out pairs."""
    intact: float
    """With all features."""
    deleted: float
    """Without the selected ones."""
    random: NDArray[np.float64]
    """``(n_draws,)`` without as many others, drawn among those that were not selected and carry counts alike."""

    @property
    def matters(self) -> bool:
        """Whether deleting the selected features costs more than deleting any draw of others did."""
        return bool(self.deleted > self.random.max())

    def __repr__(self) -> str:
        return (
            f"Deletion of {self.n_features:,} selected features of {self.modality!r}, matching {self.n_pairs:,} "
            f"held-out "
            f"pairs with {self.partner!r}: FOSCTTM {self.intact:.3f} with all features, {self.deleted:.3f} without "
            f"these, "
            f"{self.random.mean():.3f} (at most {self.random.max():.3f}) without as many others; chance 0.5"
        )


def deletion_test(
    model: MosaicModel,
    modality: str,
    *,
    partner: str | None = None,
    features: Sequence[str] | None = None,
    n_draws: int = 10,
    random_state: int = 0,
) -> DeletionTest:
    """Delete the features that gates selected, and see whether cells still find their partners.

    A feature is deleted by dealing its values to other held-out cells at random: its distribution stays, what it says
    of
    the cell is gone. The null is the deletion of as many features that were not selected and are measured as often.

    Parameters
    ----------
    model
        A trained model with its training data; pairs are those it held out.
    modality
        Whose features are deleted.
    partner
        The modality to match with; the one with most held-out pairs by default.
    features
        Features to delete; those that the gates of the modality selected by default.
    n_draws
        Draws of other features.
    random_state
        Seed of all draws.

    Raises
    ------
    NotFittedError
        If the model has no data, was not trained, or held nothing out.
    ValueError
        If fewer than 30 pairs were held out, or nothing or everything is selected.
    """
    model.check_modality(modality)
    check_count(n_draws, "n_draws")
    mdata, held = model.adata, getattr(model, "validation_indices_", None)
    if mdata is None or held is None or not len(held):
        raise NotFittedError("The test needs a trained model with its data, and cells that it held out.")
    names = mdata.mod[modality].var_names
    if features is None:
        table = model.get_gates(modality)
        features = table.index[table["selected"]].tolist()
    check_keys(features, list(names), f"Feature of {modality!r}")
    chosen = np.flatnonzero(names.isin(features))
    others = np.setdiff1d(np.arange(len(names)), chosen)
    if not len(chosen) or len(others) < len(chosen):
        raise ValueError(
            f"{len(chosen):,} of {len(names):,} features of {modality!r} are selected: there have to be some, and at "
            "least as many others to compare with."
        )
    here = presence(mdata, list(model.modalities))[np.asarray(held)]
    at = model.modalities.index(modality)
    counts = (here & here[:, [at]]).sum(axis=0)
    counts[at] = -1
    partner = model.modalities[int(counts.argmax())] if partner is None else partner
    cells = np.asarray(held)[here[:, at] & here[:, model.modalities.index(partner)]]
    if len(cells) < MIN_PAIRS:
        raise ValueError(
            f"{len(cells)} pairs of {modality!r} and {partner!r} were held out, at least {MIN_PAIRS} needed."
        )
    test = _Test(model, modality, partner, cells)
    rng = np.random.default_rng(random_state)
    alike = _alike(test.x, chosen, others)
    draws = [test.score(_draw(alike, rng), rng) for _ in range(n_draws)]
    return DeletionTest(
        modality=modality,
        partner=partner,
        n_features=len(chosen),
        n_pairs=len(cells),
        intact=test.score(chosen[:0], rng),
        deleted=float(np.mean([test.score(chosen, rng) for _ in range(3)])),
        random=np.asarray(draws),
    )


class _Test:
    """Held-out pairs, and the latents of their other half."""

    def __init__(self, model: Any, modality: str, partner: str, cells: NDArray[np.int64]) -> None:
        self.model, self.modality, self.cells = model, modality, cells
        self.block = model._matching_block() or model._default_block()
        self.adata = model.adata.mod[modality][model.adata.obs_names[cells]].copy()
        field = next(f for f in model.adata_manager.modality_fields if f.name == modality)
        self.layer = field.spec.layer
        values = matrix_of(self.adata, self.layer, modality)
        self.x = np.asarray(values.toarray() if sp.issparse(values) else values, dtype=np.float32)
        self.y = model.get_latent_representation(modality=partner, indices=cells, block=self.block)
        self.groups = model.adata_manager.codes()["batch"].ravel()[cells]

    def score(self, features: NDArray[np.int64], rng: np.random.Generator) -> float:
        """Return FOSCTTM with the values of some features dealt to other cells."""
        x = self.x.copy()
        for j in features:
            x[:, j] = x[rng.permutation(len(x)), j]
        part = self.adata.copy()
        if self.layer is None:
            part.X = sp.csr_matrix(x)
        else:
            part.layers[self.layer] = sp.csr_matrix(x)
        mdata = build_mudata({self.modality: part}, obs=self.model.adata.obs)
        z = self.model.get_latent_representation(mdata, modality=self.modality, block=self.block)
        found = matching_scores(z, self.y, groups=self.groups, k=1, least_group=2)
        return float(found.foscttm)


def _alike(x: NDArray[np.float32], chosen: NDArray[np.int64], others: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return for every chosen feature the others that are nearest to it in how often they are not zero."""
    seen = (x != 0).mean(axis=0)
    n = min(len(others), max(20, 2 * len(chosen)))
    return [others[np.argsort(np.abs(seen[others] - seen[j]), kind="stable")[:n]] for j in chosen]


def _draw(alike: list[NDArray[np.int64]], rng: np.random.Generator) -> NDArray[np.int64]:
    """Return as many other features, none twice where that can be."""
    taken: set[int] = set()
    for candidates in alike:
        free = [j for j in candidates.tolist() if j not in taken] or candidates.tolist()
        taken.add(int(rng.choice(free)))
    return np.array(sorted(taken))
