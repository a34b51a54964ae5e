"""Groups of features learned together with their gates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.cluster import SpectralClustering

from smalti.nn import START, draw_gate, open_probability, project_

from ._common import START_CELLS, some_cells

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from ._engine import SelectOptions
    from ._values import Values

MAIN = 0.7
"""Membership of a feature in the group that it starts in."""
TEMPERATURES = (10.0, 0.01)
N_NEIGHBORS = 7
LAM_GRAPH, LAM_GATES = 1.0, 0.1
LR = 1e-3


def learn_groups(
    values: Values, rows: NDArray[np.int64], n_groups: int, options: SelectOptions, *, seed: int
) -> NDArray[np.int64]:
    r"""Return the group of each feature, ``(D,)`` codes without gaps.

    Soft memberships :math:`M = \mathrm{softmax}((\ell + g) / \tau)` with Gumbel noise :math:`g` and a temperature that
    falls from 10 to 0.01 minimise

    .. math::

        -\frac{1}{B D} \mathrm{Tr}[X_g^T P^2 X_g] + \frac{1}{D C} \big(\lambda_1 \mathrm{Tr}[F^T L F] +
        \lVert F^T F - I \rVert^2\big) + \frac{\lambda_2}{C} \sum_j \Phi(\mu_j / \sigma) \bar M_j

    with gates :math:`M z`, :math:`F` the memberships with columns of unit length, and :math:`L` the normalised
    Laplacian of the correlations between features :cite:p:`GroupFS2025`.

    Parameters
    ----------
    values, rows
        Values, and the cells to draw from.
    n_groups
        Number of groups; some may end empty and are left out.
    options
        See :class:`SelectOptions`.
    seed
        Seed.
    """
    x = values.read(some_cells(rows, START_CELLS, seed)).numpy()
    similarity = np.abs(np.corrcoef(x.T)).astype(np.float32)
    np.fill_diagonal(similarity, 0)
    cut = np.partition(similarity, -min(10, len(similarity) - 1), axis=1)[:, -min(10, len(similarity) - 1)]
    graph = np.where(similarity >= cut[:, None], similarity, 0)
    graph = np.maximum(graph, graph.T) + 1e-6
    first = SpectralClustering(n_groups, affinity="precomputed", random_state=seed, assign_labels="kmeans")
    codes = torch.from_numpy(first.fit_predict(graph).astype(np.int64))
    root = graph.sum(axis=1) ** -0.5
    laplacian = torch.from_numpy((np.eye(len(graph)) - graph * root[:, None] * root[None]).astype(np.float32))
    d = len(codes)
    rest = (1 - MAIN) / max(n_groups - 1, 1)
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        logits = torch.log(F.one_hot(codes, n_groups) * (MAIN - rest) + rest).requires_grad_()
        mu = torch.full((n_groups,), START, requires_grad=True)
        optimizer = torch.optim.Adam([logits, mu], lr=LR)
        for step in range(options.n_steps):
            t = step / options.n_steps
            tau = TEMPERATURES[0] + t * (TEMPERATURES[1] - TEMPERATURES[0])
            gumbel = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
            member = torch.softmax((logits + gumbel) / tau, dim=1)
            size = min(options.batch_size, len(rows))
            batch = values.read(rows[rng.choice(len(rows), size, replace=False)])
            gated = batch * (member @ draw_gate(mu, 1.0, options.sigma))
            near = torch.cdist(gated, gated)
            own = near.detach().kthvalue(min(N_NEIGHBORS, size), dim=1).values.clamp(min=1e-6)
            kernel = torch.exp(-near.square() / (own[:, None] * own[None]))
            walk = kernel / kernel.sum(dim=1, keepdim=True)
            score = (gated * (walk @ (walk @ gated))).sum() / (size * d)
            unit = member / member.norm(dim=0).clamp(min=1e-6)
            apart = (unit.T @ unit - torch.eye(n_groups)).square().sum()
            smooth = (unit * (laplacian @ unit)).sum()
            price = (open_probability(mu, options.sigma) * member.mean(dim=0)).sum() / n_groups
            loss = -score + (LAM_GRAPH * smooth + apart) / (d * n_groups) + LAM_GATES * price
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            project_(mu.data, options.sigma)
    return np.unique(logits.detach().argmax(dim=1).numpy(), return_inverse=True)[1]
