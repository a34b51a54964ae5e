"""Features that several modalities agree on, or that only one of them knows."""

from __future__ import annotations

from functools import partial
from itertools import combinations
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch

from smalti._validate import check_choice, check_positive

from ._common import N_TOP, START_CELLS, Choice, finish, landmark_codes, options_of, some_cells
from ._engine import SelectionProblem
from ._graph import differential_smoothness, gated_gram, inverse_operator, shared_smoothness, smoothness
from ._support import N_CELLS, shared_support
from ._values import Values, paired_rows
from ._warm_start import dependence_across, warm_start

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._common import Lam, Supports
    from ._engine import SelectOptions, Starts
    from ._result import Selection

Kind = Literal["shared", "differential"]
SHUT_ACROSS = 0.0
"""Start of gates of features on which no feature of another modality depends: half of the draws of one that starts at
0.25 are wide enough to flatten the kernel, and many together open at a low price."""


class SharedProblem(SelectionProblem):
    """Smoothness on the graphs of two modalities, summed over pairs of modalities.

    With ``own`` above 0, each modality is also asked to be smooth on its own graph of all its cells.
    """

    own: float = 0.0

    def score(
        self, x: dict[str, torch.Tensor], z: dict[str, torch.Tensor], weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the sum over features of all modalities, each at most 2."""
        o = self.options
        gated = {name: gated_gram(values, z[name]) for name, values in x.items()}
        pairs = list(combinations(gated, 2))
        parts = [shared_smoothness(gated[a], gated[b], o.n_neighbors, o.bandwidth, weight) for a, b in pairs]
        total = torch.stack(parts).sum() / (len(gated) - 1)
        if self.own > 0:
            for name in gated:
                own = gated_gram(self.any_cells(name), z[name])
                total = total + self.own * smoothness(own, o.n_neighbors, o.bandwidth, o.n_walk)
        return total

    def any_cells(self, name: str) -> torch.Tensor:
        """Return values of random cells of a modality, whatever else was measured of them."""
        values = self.values[name]
        n = int(values.rows.max()) + 1
        size = min(self.options.batch_size, n)
        return values.read(torch.randperm(n)[:size].numpy())


class PairwiseProblem(SharedProblem):
    """The same for a mosaic in which no cell has all modalities: each pair draws cells of its own."""

    pairs: dict[tuple[str, str], NDArray[np.int64]]

    def graph(self) -> str:
        """Return in words which cells a graph is drawn of."""
        return f"batches of up to {self.options.batch_size} of the cells of each pair of modalities"

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Return nothing but the numbers of the cells; the score reads them pair by pair."""
        self.rng = rng
        return {}, None

    def score(
        self, x: dict[str, torch.Tensor], z: dict[str, torch.Tensor], weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the sum over pairs, each on its own cells."""
        o, parts = self.options, []
        for (a, b), rows in self.pairs.items():
            cells = self.rng.choice(len(rows), min(o.batch_size, len(rows)), replace=False)
            gated: list[torch.Tensor] = []
            for i, name in enumerate((a, b)):
                values = self.values[name].read(rows[cells, i])
                if self.permuted:
                    order = np.argsort(self.rng.random(values.shape, dtype=np.float32), axis=0)
                    values = values.gather(0, torch.from_numpy(order))
                gated.append(gated_gram(values, z[name]))
            parts.append(shared_smoothness(gated[0], gated[1], o.n_neighbors, o.bandwidth))
        return torch.stack(parts).sum() / max(len(self.values) - 1, 1)

    def subset(self, cells: NDArray[np.int64]) -> SelectionProblem:
        """Return the same problem on half of the cells of each pair; ``cells`` only seeds the choice."""
        out = self._copy()
        rng = np.random.default_rng(int(cells.sum()) % 2**32)
        out.pairs = {pair: rows[rng.permutation(len(rows))[: len(rows) // 2]] for pair, rows in self.pairs.items()}
        return out


class DifferentialProblem(SelectionProblem):
    """Smoothness on the own graph in directions in which the other modality has none; the first one has gates."""

    ridge: float = 0.1
    other: Values
    lams = (0.57, 0.68, 0.8, 0.95, 1.13)
    # without structure every direction is as good as any, so permuted features score more than true ones, not less

    def draw(self, rng: np.random.Generator) -> tuple[dict[str, torch.Tensor], torch.Tensor | None]:
        """Return the values of the gated modality and, as a second entry, the operator of the other one."""
        n, size = len(self.rows), self.options.batch_size
        cells = np.arange(n) if n <= 2 * size else rng.choice(n, size, replace=False)
        ((name, values),) = self.values.items()
        x, y = values.read(self.rows[cells, 0]), self.other.read(self.rows[cells, 1])
        if self.permuted:
            fixed = np.random.default_rng(len(cells)) if n <= 2 * size else rng
            x = x.gather(0, torch.from_numpy(np.argsort(fixed.random(x.shape, dtype=np.float32), axis=0)))
        inverse = inverse_operator(y @ y.T, self.options.n_neighbors, self.options.bandwidth, self.ridge)
        return {name: x, "": inverse}, None

    def score(
        self, x: dict[str, torch.Tensor], z: dict[str, torch.Tensor], weight: torch.Tensor | None
    ) -> torch.Tensor:
        """Return the sum over features."""
        o = self.options
        ((name, gate),) = z.items()
        return differential_smoothness(gated_gram(x[name], gate), x[""], o.n_neighbors, o.bandwidth)


def mmdufs(
    mdata: MuData,
    modalities: Sequence[str] | None = None,
    *,
    kind: Kind = "shared",
    lam: Lam = "auto",
    n_features: int | None = None,
    layers: dict[str, str] | None = None,
    batch_key: str | None = None,
    n_top: int | None = N_TOP,
    own: float = 0.0,
    ridge: float = 0.1,
    use_warm_start: bool = True,
    stability: int = 0,
    landmarks: int | None = None,
    options: SelectOptions | dict[str, Any] | None = None,
    random_state: int = 0,
    write: bool = True,
) -> Selection:
    r"""Select features of structure that modalities share, or that only the first of two has :cite:p:`Yang2023`.

    With :math:`L_v` the symmetrically normalised kernel of the gated features of modality :math:`v`, gates maximise

    .. math::

        \frac1B \mathrm{Tr}[X^T P X] + \frac1B \mathrm{Tr}[Y^T P Y] - \lambda \sum P(z > 0), \qquad
        P = L_x L_y + L_y L_x

    for ``"shared"``, summed over pairs of modalities, and :math:`\frac1B \mathrm{Tr}[X^T Q X]` with
    :math:`Q \propto (L_y + c I)^{-1} L_x (L_y + c I)^{-1}` of spectral norm 1 for
    ``"differential"``, where :math:`L_y` sees all features of the second modality.

    Parameters
    ----------
    mdata
        The mosaic. Operators use cells that have both modalities; if no cell has all of three or more, each pair of
        modalities uses its own cells.
    modalities
        Names; all by default. ``"differential"`` takes two and selects in the first.
    kind
        What to look for.
    lam
        Price of an open feature. ``"auto"``: halfway between what the features that start open earn, and what they
        earn when permuted. ``"path"``: calibrated on permuted features, see :func:`dufs`. The useful range is narrow
        and moves with the amount of noise, so a fixed number rarely serves. ``"differential"`` has no start and follows
        prices from 0.57 to 1.13, because without structure features score more, not less.
    n_features
        Number of features of all modalities together; the price is then searched for.
    layers
        Layer by modality; ``.X`` where not given.
    batch_key
        Column of ``mdata.obs``: features are centred within each batch.
    n_top
        The most variable features of each modality take part; ``None`` for all.
    own
        Weight of the smoothness of a modality on the graph of all its cells, paired or not (``"shared"``).
    ridge
        The :math:`c` of ``"differential"``.
    use_warm_start
        Start gates open for features that depend on any feature of another modality, by a test of all pairs
        (``"shared"``). Without it and with much noise, true features close together with the noise: with 80 features of
        noise per modality F1 is about 0.35, with it 1.
    stability, landmarks, options, random_state, write
        See :func:`dufs`. Kernels default to ten neighbours, runs to 300 steps of 128 cells (256 for
        ``"differential"``).

    Returns
    -------
    Tables, price and path. Shared features are supported (see :func:`dufs`) if they are smooth on the graph of what is
    selected in the other modalities; there is no such test for ``"differential"`` or without complete cells.

    Raises
    ------
    KeyError
        If a modality, layer or column does not exist.
    ValueError
        If there are fewer than two modalities, or too few paired cells.

    Notes
    -----
    Different from the publication: ten neighbours and bandwidth 2 (two and 5 close everything or nothing), parameters
    are clipped after every step, :math:`c = 0.1` instead of 0.001, batches instead of all cells, and prices that are
    sums over features.
    """
    check_choice(kind, ("shared", "differential"), "kind")
    check_positive(own, "own", allow_zero=True)
    check_positive(ridge, "ridge")
    names = list(mdata.mod) if modalities is None else list(modalities)
    if len(names) < 2 or (kind == "differential" and len(names) != 2):
        wanted = "two modalities" if kind == "differential" else "at least two modalities"
        raise ValueError(f"Expected {wanted} for kind {kind!r}, found {names}.")
    size, lr = (128, 0.02) if kind == "shared" else (256, 0.03)
    chosen = options_of(options, n_neighbors=10, n_steps=300, batch_size=size, lr=lr)
    choice = Choice(lam=lam, n_features=n_features, stability=stability, random_state=random_state)
    layers = layers or {}
    values = {name: Values(mdata, name, layer=layers.get(name), batch_key=batch_key, n_top=n_top) for name in names}
    problem = _problem(values, kind, chosen, own, ridge)
    if landmarks is not None and type(problem) is SharedProblem:
        problem.strata = landmark_codes(values[names[0]], problem.rows[:, 0], landmarks, random_state)
    widths = {name: np.ones(v.n_features, dtype=np.int64) for name, v in problem.values.items()}
    start: Starts | None = None
    extra: dict[str, dict[str, NDArray[Any]]] = {}
    if use_warm_start and kind == "shared":
        statistic = across(list(values.values()), random_state)
        start = {name: torch.from_numpy(warm_start(s, SHUT_ACROSS)) for name, s in zip(values, statistic, strict=True)}
        extra = {name: {"dependence": s} for name, s in zip(values, statistic, strict=True)}
    path = choice.run(problem, start, widths)
    supports: Supports | None = None
    if type(problem) is SharedProblem:
        some = some_cells(problem.rows, N_CELLS, random_state)
        supports = partial(shared_support, values, some, seed=random_state)
    method = f"mmdufs {kind}"
    return finish(mdata, problem, path, choice, method=method, start=start, extra=extra, supports=supports, write=write)


def across(values: list[Values], seed: int) -> list[NDArray[np.float32]]:
    """Return how strongly each feature depends on any feature of another modality, ``(D,)`` each; above 1 is signal."""
    out = [np.zeros(v.n_features, dtype=np.float32) for v in values]
    for i, j in combinations(range(len(values)), 2):
        rows = paired_rows([values[i], values[j]])
        rows = rows[some_cells(np.arange(len(rows)), START_CELLS, seed)]
        x, y = (values[m].read(rows[:, k]).numpy() for k, m in enumerate((i, j)))
        for k, found in zip((i, j), dependence_across(x, y), strict=True):
            out[k] = np.maximum(out[k], found)
    return out


def _problem(
    values: dict[str, Values], kind: Kind, options: SelectOptions, own: float, ridge: float
) -> SelectionProblem:
    names = list(values)
    if kind == "differential":
        rows = paired_rows(list(values.values()))
        problem = DifferentialProblem({names[0]: values[names[0]]}, rows, options)
        problem.other, problem.ridge = values[names[1]], ridge
        return problem
    complete = np.column_stack([v.rows >= 0 for v in values.values()]).all(axis=1).sum()
    if len(names) == 2 or complete >= options.batch_size:
        shared = SharedProblem(values, paired_rows(list(values.values())), options)
        shared.own = own
        return shared
    pairs = {(a, b): paired_rows([values[a], values[b]]) for a, b in combinations(names, 2)}
    rows = max(pairs.values(), key=len)
    filler = np.zeros((max(len(rows), 2 * options.batch_size + 1), len(names)), dtype=np.int64)
    pairwise = PairwiseProblem(values, filler, options)
    pairwise.pairs, pairwise.own = pairs, 0.0
    return pairwise
