"""What a fitted FusionClustering says of cells: clusters by modality, agreement, and the table in ``.obs``."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from smalti._errors import NotFittedError
from smalti._validate import check_text
from smalti.model.base import LabelMixin, most_probable, positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._module import FusionModule

MIXED_SHARE = 0.9
"""Share of one batch from which on a cluster is said to be a batch."""


class FusionResults(LabelMixin):
    """Clusters, their probabilities, and where modalities disagree."""

    module: FusionModule
    stability_: pd.DataFrame | None
    reseeded_: int

    def predict_by_modality(
        self,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Return the cluster that each modality by itself gives every cell.

        Parameters
        ----------
        mdata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        One row per cell and one column per modality; missing where it was not measured.
        """
        tables = self._by_modality(mdata, indices, batch_size)
        return pd.DataFrame({name: most_probable(table) for name, table in tables.items()})

    def agreement(
        self,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> pd.Series:
        r"""Return how far the modalities of a cell agree on its cluster.

        .. math:: \sum_k \min\big(P_a(k), P_b(k)\big)

        Mean over pairs of modalities that the cell has; cells with little agreement are those to look at.

        Parameters
        ----------
        mdata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        ``(n,)`` in [0, 1]; missing for cells with one modality.
        """
        return _agreement(self._by_modality(mdata, indices, batch_size))

    def write_clusters(self, mdata: MuData | None = None, *, key_added: str = "cluster") -> None:
        """Write clusters and all that is known of them into the MuData.

        ``.obs`` gets ``<key>``, the cluster; ``<key>_prob``, its probability; ``<key>_entropy`` of all probabilities,
        in [0, 1]; ``<key>_agreement`` of :meth:`agreement`; and ``<key>_<modality>``, the cluster by each modality
        alone. ``.obsm["X_<key>"]`` is the fused embedding, ``.obsm["<key>_proba"]`` the probabilities. ``.uns[<key>]``
        has what :meth:`diagnostics` returns.

        Parameters
        ----------
        mdata
            Where to write; the training data by default. It may lack modalities.
        key_added
            Name of the column with clusters, and beginning of the other names.
        """
        if not self.is_trained_:
            raise NotFittedError("There are no clusters yet: call `train` first.")
        check_text(key_added, "key_added")
        mdata = self._validate_anndata(mdata)
        probability = self.predict_proba(mdata)
        p, names = probability.to_numpy(), list(probability.columns)
        by_modality = self._by_modality(mdata, None, None)
        columns = {
            key_added: pd.Categorical(most_probable(probability).to_numpy(), categories=names),
            f"{key_added}_prob": p.max(axis=1),
            f"{key_added}_entropy": _entropy(p),
            f"{key_added}_agreement": _agreement(by_modality).to_numpy(),
        }
        for name, table in by_modality.items():
            columns[f"{key_added}_{name}"] = pd.Categorical(most_probable(table).to_numpy(), categories=names)
        for column, values in columns.items():
            mdata.obs[column] = values
        mdata.obsm[f"X_{key_added}"] = self.get_latent_representation(mdata)
        mdata.obsm[f"{key_added}_proba"] = p
        mdata.uns[key_added] = self.diagnostics(mdata)

    def diagnostics(self, mdata: MuData | None = None) -> dict[str, Any]:
        """Return what to know of the clusters, as plain values and tables of arrays.

        Parameters
        ----------
        mdata
            Cells that are counted; those of training by default.

        Returns
        -------
        ``n_clusters``, ``n_used`` and ``sizes``; ``modalities`` and their ``weights``; ``stability`` by number of
        clusters (where it was chosen); ``correlation`` of training and held-out cells and ``coverage`` by epoch;
        ``reseeded`` clusters; and with batches ``batch_entropy`` of each cluster, in [0, 1], relative to that of all
        cells, and ``one_batch``, clusters of which 90 % of the cells are of one batch that has fewer than half of all
        cells.
        """
        mdata = self._validate_anndata(mdata)
        clusters, names = self.predict(mdata), self._label_names()
        sizes = clusters.value_counts().reindex(names, fill_value=0).to_numpy()
        weights = {name: float(w.detach()) for name, w in self.module.modality_weights().items()}
        out: dict[str, Any] = {
            "n_clusters": self.module.n_clusters,
            "n_used": int((sizes > 0).sum()),
            "n_correlated": int(self.module.n_axes),
            "sizes": sizes,
            "modalities": np.array(list(weights), dtype=object),
            "weights": np.array(list(weights.values())),
            "reseeded": self.reseeded_,
        }
        if self.stability_ is not None:
            out["stability"] = {
                "n_clusters": self.stability_.index.to_numpy(),
                **{column: self.stability_[column].to_numpy() for column in self.stability_},
            }
        for key in ("correlation_train", "correlation_validation", "coverage_train"):
            if key in (self.history_ or {}):
                values = (self.history_ or {})[key].to_numpy(dtype=np.float64).ravel()
                out[key] = -values if key.startswith("correlation") else values
        manager = self.get_anndata_manager(mdata, required=True)
        batch = manager.codes()["batch"]
        if self.sizes_.n_batch > 1 and len(np.unique(batch)) > 1:
            out |= _batches(clusters.to_numpy(), batch, names, self.sizes_.n_batch)
        return out

    def _by_modality(
        self, mdata: MuData | None, indices: Sequence[int] | NDArray[Any] | None, batch_size: int | None
    ) -> dict[str, pd.DataFrame]:
        """Return probabilities of clusters by each modality alone, missing where it was not measured."""
        data = self._validate_anndata(mdata)
        parts: dict[str, list[NDArray[np.float32]]] = {name: [] for name in self.modalities}
        k = self.module.n_clusters
        for minibatch in self.iterate(data, indices, batch_size):
            out = self.module.inference(minibatch)
            for name in self.modalities:
                if name in out["present"]:
                    units = self.module.fused(out, name)
                    p = torch.softmax(self.module.head(units), dim=1)
                    found = torch.where(out["present"][name][:, None], p, torch.nan).cpu().numpy()
                else:
                    found = np.full((len(minibatch["index"]), k), np.nan, dtype=np.float32)
                parts[name].append(found)
        index = data.obs_names[positions(data, indices)]
        names = self._label_names()
        return {name: pd.DataFrame(np.concatenate(p), index=index, columns=names) for name, p in parts.items()}


def _entropy(p: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return the entropy of rows, in units of that of equal shares."""
    return np.asarray(-(p * np.log(np.maximum(p, 1e-12))).sum(axis=1) / np.log(p.shape[1]), dtype=np.float64)


def _agreement(tables: dict[str, pd.DataFrame]) -> pd.Series:
    total: NDArray[np.float64] | float = 0.0
    count: NDArray[np.int64] | int = 0
    for a, b in combinations(tables.values(), 2):
        overlap = np.minimum(a.to_numpy(), b.to_numpy()).sum(axis=1)  # NaN where either is missing
        known = np.isfinite(overlap)
        total = total + np.where(known, overlap, 0.0)
        count = count + known
    index = next(iter(tables.values())).index
    with np.errstate(invalid="ignore"):
        return pd.Series(np.where(np.asarray(count) > 0, total / np.maximum(count, 1), np.nan), index=index)


def _batches(clusters: NDArray[Any], batch: NDArray[np.int64], names: list[str], n_batch: int) -> dict[str, Any]:
    table = pd.crosstab(pd.Categorical(clusters, names), pd.Categorical(batch, range(n_batch)), dropna=False)
    counts = table.to_numpy(dtype=float)
    overall = counts.sum(axis=0) / counts.sum()
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)

    def entropy(p: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(-(p * np.log(np.maximum(p, 1e-12))).sum(axis=-1), dtype=np.float64)

    relative = entropy(share) / max(float(entropy(overall)), 1e-12)
    top = share.argmax(axis=1)
    alone = (share.max(axis=1) >= MIXED_SHARE) & (overall[top] < 0.5)
    return {
        "batch_entropy": np.clip(relative, 0, 1),
        "one_batch": np.array([name for name, is_one in zip(names, alone, strict=True) if is_one], dtype=object),
    }
