"""Tasks: a training mosaic, and what a latent of it is worth for matching, cell types and mixing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from smalti._validate import check_choice
from smalti.benchmark._read import load_data, read_data
from smalti.benchmark._scores import biology, matching, mixing
from smalti.benchmark._split import batch_split, bridge_split, mosaic_split, paired_split
from smalti.metrics import NEIGHBORS, nearest_neighbors, total_score

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import ArrayLike, NDArray

    from smalti.benchmark._data import PairedData


class _Recipe(NamedTuple):
    data: str
    split: Callable[[PairedData, int], NDArray[np.str_]]
    complete: bool = False
    """Only the cells with both modalities."""
    one_batch: bool = False
    """Batches are not told to the tool and not scored."""


TASKS: dict[str, _Recipe] = {
    "pbmc_mosaic": _Recipe("pbmc_mosaic", mosaic_split),
    "pbmc_donor": _Recipe("pbmc_mosaic", batch_split),
    "pbmc10k5k": _Recipe("pbmc10k5k", mosaic_split),
    "sln_bridge": _Recipe("sln_bridge", bridge_split),
    "snare_mop": _Recipe("snare_mop", mosaic_split, one_batch=True),
    "pbmc_paired": _Recipe("pbmc_mosaic", paired_split, complete=True),
    "pbmc10k_paired": _Recipe("pbmc10k_cite", paired_split, complete=True),
}
"""The tasks by name; :func:`load_task` says what each asks."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training mosaic and how a latent of it is scored; made by :func:`load_task`."""

    name: str
    """Of the task."""
    data: PairedData
    """All cells, with the truth."""
    roles: NDArray[np.str_]
    """``(n_cells,)`` what each cell is for, see :func:`mosaic_split`."""
    mdata: MuData
    """What a tool trains on: raw counts, without labels; ``obs`` has ``batch``, ``row`` and ``profile``."""
    one_batch: bool
    """Whether batches are neither told to the tool nor scored."""

    @property
    def batch_key(self) -> str | None:
        """Column of ``mdata.obs`` to register with a tool, or None if there is one batch."""
        return None if self.one_batch else "batch"

    @property
    def modalities(self) -> dict[str, str]:
        """Likelihood of each modality, as ``setup_mudata`` takes it."""
        return dict(self.data.likelihoods)

    @property
    def labels(self) -> NDArray[Any]:
        """``(mdata.n_obs,)`` cell type of each observation, for scoring."""
        return np.asarray(self.data.labels[self.mdata.obs["row"].to_numpy(int)])

    @property
    def batch(self) -> NDArray[Any]:
        """``(mdata.n_obs,)`` batch of each observation."""
        return self.mdata.obs["batch"].to_numpy(dtype=str)

    @property
    def profile(self) -> NDArray[Any]:
        """``(mdata.n_obs,)`` presence pattern of each observation: "both", or its modality."""
        return self.mdata.obs["profile"].to_numpy(dtype=str)

    def score(self, z: ArrayLike) -> dict[str, float]:
        """Score a latent.

        Parameters
        ----------
        z
            ``(mdata.n_obs, d)``, in the order of ``mdata.obs_names``, finite.

        Returns
        -------
        Scores by name.

        Raises
        ------
        ValueError
            If the latent has another number of rows or is not finite.

        Notes
        -----
        Scores are in [0, 1] and higher is better unless said otherwise.

        - ``foscttm`` and ``foscttm_depth`` (lower is better), ``ms10``: matching of hidden pairs within batches, see
          :func:`smalti.metrics.matching_scores`; ``transfer``: accuracy of types carried across modalities by 15
          neighbours, the mean of both directions. Left out if no pair is hidden.
        - ``bio`` and what it is the mean of, see :func:`smalti.metrics.biology_scores`; ``connectivity``.
        - ``batch`` and ``presence``, and what they are means of, see :func:`smalti.metrics.mixing_scores`; presence
          in the batches that have several patterns. Left out if there is one batch, or no such batch.
        - ``total``, see :func:`smalti.metrics.total_score`.
        """
        z = np.asarray(z, np.float32)
        if z.ndim != 2 or len(z) != self.mdata.n_obs or not np.isfinite(z).all():
            raise ValueError(f"Expected a finite latent of {self.mdata.n_obs} observations, found shape {z.shape}.")
        labels, batch, profile = self.labels, self.batch, self.profile
        neighbors = nearest_neighbors(z, k=min(NEIGHBORS, len(z) - 2))
        out = matching(self.data, self.roles, self.data.scatter(self.mdata, z), one_batch=self.one_batch)
        out |= biology(z, labels, neighbors)
        if not self.one_batch:
            out |= mixing(z, labels, batch, "batch", neighbors)
        several = [b for b in np.unique(batch) if len(np.unique(profile[batch == b])) > 1]
        chosen = np.isin(batch, several)
        if len(np.unique(profile[chosen])) > 1:
            same = neighbors if chosen.all() else None
            out |= mixing(z[chosen], labels[chosen], profile[chosen], "presence", same)
        out["total"] = total_score(out["bio"], batch=out.get("batch"), presence=out.get("presence"))
        return out


def load_task(
    name: str,
    seed: int = 0,
    *,
    data_dir: str | Path | None = None,
    path: str | Path | None = None,
    labels_key: str = "cell_type",
    hide_batch: bool = False,
) -> Task:
    """Return a task by name, or a task made of a file of yours.

    - ``pbmc_mosaic``: blood, RNA and protein, 1,600 cells of four donors; some pairs of two of them are there.
    - ``pbmc_donor``: the same cells; all pairs of one donor are hidden and those of the other stay: a new donor.
    - ``pbmc10k5k``: blood, RNA and protein, beside cells of another batch with RNA alone.
    - ``sln_bridge``: spleen and lymph node, RNA of one day and protein of another, few cells of both days with both.
    - ``snare_mop``: cortex, RNA and open chromatin, one batch.
    - ``pbmc_paired`` and ``pbmc10k_paired``: cells with both modalities, nothing hidden.

    Parameters
    ----------
    name
        One of ``TASKS``; with ``path``, a name of your choice.
    seed
        Of the split.
    data_dir
        Folder of the data sets, see :func:`data_folder`.
    path
        A ``.h5mu`` file with raw counts of two modalities, which is split as ``pbmc_mosaic`` is.
    labels_key
        Column with the cell types of that file.
    hide_batch
        Hide all pairs of one batch instead of a fifth of all pairs.

    Raises
    ------
    ValueError
        If there is no task of this name.
    FileNotFoundError
        If the data are not there.
    """
    if path is None:
        recipe = TASKS[check_choice(name, tuple(TASKS), "name")]
        data = load_data(recipe.data, data_dir)
    else:
        recipe, data = _Recipe("", mosaic_split), read_data(path, labels_key=labels_key)
    if recipe.complete:
        data = data.subset(data.complete)
    roles = (batch_split if hide_batch else recipe.split)(data, seed)
    mdata = data.training_mudata(roles)
    mdata.obs = mdata.obs[["batch", "row", "profile"]].copy()
    one_batch = recipe.one_batch or mdata.obs["batch"].nunique() < 2
    return Task(name=name, data=data, roles=roles, mdata=mdata, one_batch=one_batch)
