"""The space in which modalities are matched: a network and linear CCA side by side, weighted on held-out pairs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import nn

from smalti._linalg import unit_rows

from ._held_out import nearer_candidates
from ._linear_start import linear_alignment
from ._state import from_tensors, to_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from ._linear_start import CellComponents

    Vectors = Mapping[str, NDArray[np.float32]]

SHARE = 0.5
"""Share of the network in the cosine where held-out pairs cannot tell: network and linear CCA alike."""
SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
MIN_PAIRS = 30
"""Held-out pairs below which the share is not chosen, and axes are told by training pairs."""
MAX_PAIRS = 5000
"""Pairs looked at."""


class Mixture(NamedTuple):
    r"""How unit vectors :math:`a` of a network and :math:`c` of linear CCA become one space.

    .. math:: u = \big[\sqrt{w}\, a,\; \sqrt{1-w}\, c\big]\, V

    The cosine of two profiles is the weighted mean of both cosines; :math:`V` drops the directions along which two
    modalities of held-out cells do not agree.
    """

    share: float
    """:math:`w`, in [0, 1]."""
    axes: NDArray[np.float32]
    """:math:`V`, ``(width, n_axes)``."""

    def apply(self, own: NDArray[np.float32], linear: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors ``(n, n_axes)``; compare by cosine."""
        return unit_rows(side_by_side(own, linear, self.share) @ self.axes)


def side_by_side(own: NDArray[np.float32], linear: NDArray[np.float32], share: float) -> NDArray[np.float32]:
    """Return unit vectors ``(n, p)`` and ``(n, q)`` as unit vectors ``(n, p + q)``."""
    weights = np.sqrt([share, 1 - share]).astype(np.float32)
    return np.hstack([own * weights[0], linear * weights[1]])


def fit_mixture(
    own: Vectors,
    linear: Vectors,
    present: Mapping[str, NDArray[np.bool_]],
    batch: NDArray[np.int64],
    held_out: NDArray[np.bool_],
) -> Mixture | None:
    """Choose the share of the network and the axes that are kept.

    Parameters
    ----------
    own, linear
        Unit vectors of ``n`` cells by modality, ``(n, p)`` and ``(n, q)``; rows of absent cells are ignored.
    present
        ``(n,)`` by modality.
    batch
        ``(n,)`` codes.
    held_out
        ``(n,)`` whether a cell was held out of training.

    Returns
    -------
    The share that is best on held-out pairs within batches if it beats equal shares by more than a standard error, and
    the principal axes of the covariance across modalities up to the first that held-out pairs deny; ``None`` without
    pairs.
    """
    names = list(own)
    pairs = [(a, b) for a, b in combinations(names, 2) if (present[a] & present[b]).sum() > 1]
    if not pairs:
        return None
    ranks: dict[float, NDArray[np.float64]] = {}
    for share in SHARES:
        found = []
        for a, b in pairs:
            at = np.flatnonzero(present[a] & present[b] & held_out)[:MAX_PAIRS]
            if len(at) > 1:
                u, v = (side_by_side(own[m][at], linear[m][at], share) for m in (a, b))
                found.append(nearer_candidates(u, v, batch[at]))
        ranks[share] = np.concatenate(found) if found else np.zeros(0)
    share = _choose(ranks)
    mixed = {name: side_by_side(own[name], linear[name], share) for name in names}
    return Mixture(share, _shared_axes(mixed, present, held_out, pairs))


def _choose(ranks: Mapping[float, NDArray[np.float64]]) -> float:
    """Return the best share if it beats the usual one by more than a standard error, else the usual one."""
    usual = ranks[SHARE]
    if len(usual) < MIN_PAIRS:
        return SHARE
    best = min(ranks, key=lambda share: float(ranks[share].mean()))
    gain = usual - ranks[best]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else SHARE


def _shared_axes(
    mixed: Vectors,
    present: Mapping[str, NDArray[np.bool_]],
    held_out: NDArray[np.bool_],
    pairs: list[tuple[str, str]],
) -> NDArray[np.float32]:
    """Return the principal axes of the covariance across modalities, up to the first that held-out pairs deny."""
    width = next(iter(mixed.values())).shape[1]
    cross, told, norm = np.zeros((width, width)), np.zeros((width, width)), np.zeros((width, width))
    few = sum(int((present[a] & present[b] & held_out).sum()) for a, b in pairs) < MIN_PAIRS
    for a, b in pairs:
        both = present[a] & present[b]
        for rows, total in ((both & ~held_out, cross), (both & (held_out | few), told)):
            at = np.flatnonzero(rows)[:MAX_PAIRS]
            if len(at) < 2:
                continue
            u, v = (mixed[m][at].astype(np.float64) for m in (a, b))
            u, v = u - u.mean(axis=0), v - v.mean(axis=0)
            total += (u.T @ v + v.T @ u) / 2
            if total is told:
                norm += (u.T @ u + v.T @ v) / 2
    values, vectors = np.linalg.eigh(cross)
    values, vectors = values[::-1], vectors[:, ::-1]
    agreement = np.einsum("ij,ik,kj->j", vectors, told, vectors)
    spread = np.einsum("ij,ik,kj->j", vectors, norm, vectors)
    good = (agreement > 0) & (spread > 1e-9 * max(spread.max(), 1e-12)) & (values > 0)
    n_axes = int(np.argmin(good)) if not good.all() else width
    if n_axes < 2:  # nothing that could be told apart from noise
        return np.eye(width, dtype=np.float32)
    return vectors[:, :n_axes].astype(np.float32)


class MatchReadout(nn.Module):
    """A model's own latents beside linear CCA of its training pairs, kept with the weights of the network.

    It has no parameters: training does not change it. Before :meth:`fit`, and where pairs are too few for linear CCA,
    its state is empty.
    """

    sizes_itself = True

    def __init__(self) -> None:
        super().__init__()
        self.linear: dict[str, dict[str, NDArray[np.float32]]] = {}
        self.mixture: Mixture | None = None

    @property
    def ready(self) -> bool:
        """Whether it was fitted."""
        return self.mixture is not None

    def fit(
        self,
        own: Vectors,
        components: CellComponents,
        batch: NDArray[np.int64],
        held_out: NDArray[np.bool_],
    ) -> None:
        """Fit linear CCA to the pairs that were not held out, and the mixture to these.

        Parameters
        ----------
        own
            ``(n_obs, d)`` latents of the model by modality; rows of absent cells are ignored.
        components
            Encoder inputs of the same cells.
        batch, held_out
            ``(n_obs,)``, see :func:`fit_mixture`.
        """
        self.linear, self.mixture = {}, None
        cca = linear_alignment(components.of(np.flatnonzero(~held_out)))
        if cca is None or set(cca.axes) != set(own):
            return
        for name in own:
            axes = (cca.axes[name] * np.maximum(cca.correlations, 0)).astype(np.float32)
            self.linear[name] = {"axes": axes, "mean": cca.means[name].astype(np.float32)}
        present = {name: components.maps[name] >= 0 for name in own}
        linear = {}
        for name, here in present.items():
            linear[name] = np.zeros((len(here), self.linear[name]["axes"].shape[1]), np.float32)
            linear[name][here] = self._linear(name, components.values[name][components.maps[name][here]])
        units = {name: unit_rows(np.where(present[name][:, None], z, 0)) for name, z in own.items()}
        self.mixture = fit_mixture(units, linear, present, batch, held_out)

    def transform(self, name: str, own: NDArray[np.float32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return unit vectors ``(n, n_axes)``, from the model's latents ``(n, d)`` and encoder inputs ``(n, k)``."""
        if self.mixture is None:
            raise RuntimeError("There is no space for matching before `fit`.")
        return self.mixture.apply(unit_rows(own), self._linear(name, x))

    def _linear(self, name: str, x: NDArray[np.float32]) -> NDArray[np.float32]:
        p = self.linear[name]
        return unit_rows(((x - p["mean"]) @ p["axes"]).astype(np.float32))

    # ------------------------------------------------------------------ as weights

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.mixture is not None:
            state = {"linear": self.linear, "share": self.mixture.share, "axes": self.mixture.axes}
            destination.update({prefix + name: value for name, value in to_tensors(state).items()})

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        state = from_tensors(state_dict, prefix)
        self.linear = {} if state is None else state["linear"]
        self.mixture = None if state is None else Mixture(float(state["share"]), state["axes"])
