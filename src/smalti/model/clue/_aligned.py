"""The block in which modalities are matched: networks and linear CCA side by side, weighted on held-out pairs."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from smalti.model.parts import nearer_candidates
from smalti.nn import ByModality, WarmEncoder, run_together

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray
    from torch import Tensor

    from ._options import CLUEOptions

SHARE = 0.5
"""Share of the networks in the cosine where held-out pairs cannot tell: networks and linear CCA alike."""
SHARES = (0.0, 0.3, 0.5, 0.7, 1.0)
MIN_PAIRS = 30
"""Held-out pairs below which the share is not chosen, and axes are told by training pairs."""
MAX_PAIRS = 5000
"""Pairs looked at."""


class AlignedBlock(nn.Module):
    r"""Alignment encoders :math:`a^{(j)}`, linear CCA :math:`c`, and how they become one space.

    .. math:: u = \big[\sqrt{w/J}\, a^{(1)}, \dots, \sqrt{w/J}\, a^{(J)}, \sqrt{1-w}\, c\big]\, V

    of unit vectors, so that the cosine of two profiles is the weighted mean of all cosines; :math:`V` drops the
    directions along which two modalities of held-out cells do not agree. Networks are trained, :math:`w` and :math:`V`
    fitted afterwards (:meth:`fit`).

    Parameters
    ----------
    widths
        Width of the encoder input by modality.
    options
        See :class:`~smalti.model.CLUEOptions`.
    """

    share: Tensor
    axes: Tensor
    n_axes: Tensor

    def __init__(self, widths: Mapping[str, int], options: CLUEOptions) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            ByModality(
                {
                    name: WarmEncoder(
                        width,
                        options.n_align,
                        n_hidden=options.align_hidden,
                        unit=True,
                        input_dropout=options.align_input_dropout,
                        dropout_rate=options.align_dropout,
                    )
                    for name, width in widths.items()
                }
            )
            for _ in range(options.n_aligners)
        )
        self.linear = ByModality(
            {name: WarmEncoder(width, options.n_align, n_hidden=None, unit=True) for name, width in widths.items()}
        )
        self.linear.requires_grad_(False)
        width = options.n_align * (options.n_aligners + 1)
        self.register_buffer("share", torch.ones(()))
        self.register_buffer("axes", torch.eye(width))
        self.register_buffer("n_axes", torch.tensor(width))

    def sets(self) -> list[ByModality[WarmEncoder]]:
        """Return the networks, each by modality."""
        return [cast("ByModality[WarmEncoder]", network) for network in self.networks]

    def networks_of(self, name: str, x: Tensor) -> Tensor:
        """Return the unit vectors of all networks, ``(n, J, n_align)``."""
        return run_together([network[name] for network in self.sets()], x)

    def forward(self, name: str, x: Tensor) -> Tensor:
        """Return the unit vectors of all networks and of linear CCA, ``(n, J + 1, n_align)``."""
        return torch.cat([self.networks_of(name, x), self.linear[name](x)[:, None]], dim=1)

    def match_space(self, parts: Tensor) -> Tensor:
        """Put unit vectors ``(n, J + 1, n_align)`` side by side, ``(n, n_axes)``; compare by cosine."""
        n = parts.shape[1] - 1
        weight = torch.cat([(self.share / n).expand(n), (1 - self.share)[None]]).clamp(min=0).sqrt()
        side_by_side = (parts * weight[None, :, None]).flatten(1)
        return F.normalize(side_by_side @ self.axes[:, : int(self.n_axes)], dim=1, eps=1e-8)

    @torch.no_grad()
    def fit(
        self,
        parts: Mapping[str, Tensor],
        present: Mapping[str, NDArray[np.bool_]],
        batch: NDArray[np.int64],
        held_out: NDArray[np.bool_],
    ) -> None:
        """Choose the share of the networks and the axes that are kept.

        Parameters
        ----------
        parts
            ``(n, J + 1, n_align)`` by modality, of ``n`` cells; rows of absent cells are ignored.
        present
            ``(n,)`` by modality.
        batch
            ``(n,)`` codes.
        held_out
            ``(n,)`` whether a cell was held out of training.
        """
        width = len(self.axes)
        self.axes.copy_(torch.eye(width))
        self.n_axes.fill_(width)
        pairs = [(a, b) for a, b in combinations(parts, 2) if (present[a] & present[b]).sum() > 1]
        if not pairs:
            return
        ranks: dict[float, NDArray[np.float64]] = {}
        for share in SHARES:
            self.share.fill_(share)
            found = []
            for a, b in pairs:
                at = np.flatnonzero(present[a] & present[b] & held_out)[:MAX_PAIRS]
                if len(at) > 1:
                    u, v = (self.match_space(parts[m][at]).cpu().numpy() for m in (a, b))
                    found.append(nearer_candidates(u, v, batch[at]))
            ranks[share] = np.concatenate(found) if found else np.zeros(0)
        self.share.fill_(_choose(ranks))
        self._keep_shared_axes(parts, present, held_out, pairs)

    def _keep_shared_axes(
        self,
        parts: Mapping[str, Tensor],
        present: Mapping[str, NDArray[np.bool_]],
        held_out: NDArray[np.bool_],
        pairs: list[tuple[str, str]],
    ) -> None:
        """Turn to the principal axes of the covariance across modalities, up to the first that held-out pairs deny."""
        width = len(self.axes)
        cross, told, norm = np.zeros((width, width)), np.zeros((width, width)), np.zeros((width, width))
        few = sum(int((present[a] & present[b] & held_out).sum()) for a, b in pairs) < MIN_PAIRS
        for a, b in pairs:
            both = present[a] & present[b]
            for rows, total in ((both & ~held_out, cross), (both & (held_out | few), told)):
                at = np.flatnonzero(rows)[:MAX_PAIRS]
                if len(at) < 2:
                    continue
                u, v = (self.match_space(parts[m][at]).cpu().double().numpy() for m in (a, b))
                u, v = u - u.mean(axis=0), v - v.mean(axis=0)
                total += (u.T @ v + v.T @ u) / 2
                if total is told:
                    norm += (u.T @ u + v.T @ v) / 2
        values, vectors = np.linalg.eigh(cross)
        vectors = vectors[:, values.argsort()[::-1]]
        agreement = np.einsum("ij,ik,kj->j", vectors, told, vectors)
        spread = np.einsum("ij,ik,kj->j", vectors, norm, vectors)
        good = (agreement > 0) & (spread > 1e-9 * max(spread.max(), 1e-12)) & (np.sort(values)[::-1] > 0)
        n_axes = int(np.argmin(good)) if not good.all() else width
        if n_axes < 2:  # nothing that could be told apart from noise
            return
        self.axes.copy_(torch.from_numpy(vectors.astype(np.float32)))
        self.n_axes.fill_(n_axes)


def _choose(ranks: Mapping[float, NDArray[np.float64]]) -> float:
    """Return the best share if it beats the usual one by more than a standard error, else the usual one."""
    usual = ranks[SHARE]
    if len(usual) < MIN_PAIRS:
        return SHARE
    best = min(ranks, key=lambda share: float(ranks[share].mean()))
    gain = usual - ranks[best]
    return best if gain.mean() > gain.std() / np.sqrt(len(gain)) else SHARE
