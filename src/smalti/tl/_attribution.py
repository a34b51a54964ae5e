"""Which features put the cells of a group where a network has them: integrated gradients, feature by feature."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from smalti._errors import NotFittedError
from smalti._validate import check_count, check_keys
from smalti.data import as_text, row_maps
from smalti.nn import FrozenProjection, SparseRows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from smalti.data import MosaicBatch
    from smalti.model.base import MosaicModel

MIN_CELLS = 3


@dataclass(frozen=True, kw_only=True)
class Attribution:
    """What features contribute to the place of groups of cells."""

    values: pd.DataFrame
    """``(G, groups)`` mean contribution over the cells of a group, in units of the latent: positive where the feature
    moves the cells away from all others."""
    summary: pd.DataFrame
    """A row per group: ``n_cells`` looked at, ``total`` (how far they lie from an average cell of their batch along the
    direction) and ``explained`` (sum of all contributions; equal to ``total`` but for the numerical integral, and where
    rows of components are standardised, as in LSI)."""
    modality: str
    """Whose features these are."""

    def top(self, group: str, n: int = 10) -> pd.Series:
        """Return the ``n`` features with the largest contributions to a group, largest first.

        Parameters
        ----------
        group
            Name of the group.
        n
            Features.
        """
        check_count(n, "n")
        check_keys([group], list(self.values.columns), "Group")
        return self.values[group].nlargest(n)

    def __repr__(self) -> str:
        lines = [f"Contributions of {len(self.values):,} features of {self.modality!r} to {len(self.summary)} groups"]
        for group, row in self.summary.iterrows():
            best = ", ".join(map(str, self.top(str(group), min(5, len(self.values))).index))
            lines.append(f"  {group} ({int(row['n_cells'])} cells): {best}")
        return "\n".join(lines)


def attribute(
    model: MosaicModel,
    modality: str,
    groupby: str,
    *,
    block: str | None = None,
    n_cells: int = 200,
    n_steps: int = 32,
    random_state: int = 0,
) -> Attribution:
    r"""Say which features put the cells of a group where the network has them.

    With :math:`z(x)` the model's own latent of a cell from this modality alone, and :math:`w` the unit vector from the
    mean of all other cells to that of the group, a feature's contribution is its integrated gradient
    :cite:p:`Sundararajan2017` (by captum) of :math:`\langle z(x), w \rangle`, from an average cell of the same batch to
    the cell, on the scale that the encoder sees (log-normalised counts, for example). Contributions of all features sum
    to what the cell is away from the average one; a feature contributes by its absence, too. They say what the
    *network* looked at, not what is regulated: of two genes that go together it may use either. For the joint latent,
    which is linear, take :func:`get_loadings`.

    Parameters
    ----------
    model
        A trained model with its data.
    modality
        Whose features are looked at; its encoder input is a fixed projection (PCA, LSI, CLR and PCA).
    groupby
        Column of ``mdata.obs`` with the groups, such as clusters.
    block
        Block of the latent, see ``get_latent_representation``; by default the one that the model matches cells in, as
        its network has it.
    n_cells
        Cells of each group to average over, drawn at random.
    n_steps
        Points on each cell's path from the average one.
    random_state
        Seed of the draw.

    Returns
    -------
    :class:`Attribution`; print it for the first features of each group.

    Raises
    ------
    ImportError
        If captum is not installed (extra ``explain``).
    NotFittedError
        If the model has no data or was not trained.
    KeyError
        If the column does not exist.
    ValueError
        If the encoder does not see the modality through a fixed projection, there are not two groups, or the block is
        the joint latent or does not exist.

    Examples
    --------
    >>> found = sm.tl.attribute(model, "rna", "leiden")
    >>> found.top("3")
    """
    if find_spec("captum") is None:
        raise ImportError("captum is not installed: `pip install 'smalti[explain]'`.")
    model.check_modality(modality)
    for value, what in ((n_cells, "n_cells"), (n_steps, "n_steps")):
        check_count(value, what)
    mdata = model.adata
    if mdata is None or not model.is_trained_:
        raise NotFittedError("Contributions are those of a trained model with its data.")
    check_keys([groupby], list(mdata.obs.columns), "Column of `mdata.obs`")
    if block == "joint":
        raise ValueError("The joint latent is linear: `tl.get_loadings` describes it.")
    block = model.aligned_block if block is None else block
    layer = model.module.inputs.layers[modality]
    if not isinstance(layer, FrozenProjection):
        raise ValueError(
            f"The encoder does not see {modality!r} through a fixed projection, so that contributions cannot be "
            "spread over its features. Set it up with `encoder_input='auto'`."
        )
    if modality in model.module.inputs.gates:
        raise ValueError(
            f"{modality!r} has gates, which say what the network looks at: `model.get_gates({modality!r})`."
        )
    groups = as_text(mdata.obs[groupby])
    known = (row_maps(mdata, [modality])[modality] >= 0) & groups.notna().to_numpy()
    sizes = groups[known].value_counts()
    names = sorted(sizes.index[sizes >= MIN_CELLS])
    if len(names) < 2:
        raise ValueError(
            f"There are fewer than two groups of {groupby!r} with {MIN_CELLS} or more cells that have {modality!r}."
        )
    model._check_block(block, modality)
    block = model.aligned_block if block == "aligned" else block  # of the network, not what is matched in beside it
    z, means = _overview(model, layer, modality, block, np.flatnonzero(known))
    which, rng = groups[known].to_numpy(), np.random.default_rng(random_state)
    values, summary = {}, {}
    for name in names:
        w = z[which == name].mean(axis=0) - z[which != name].mean(axis=0)
        direction = torch.as_tensor(w / max(float(np.linalg.norm(w)), 1e-12))
        cells = np.flatnonzero(known)[which == name]
        cells = np.sort(rng.permutation(cells)[:n_cells])
        values[name], total = _of_cells(model, layer, modality, block, cells, direction, means, n_steps)
        summary[name] = {"n_cells": len(cells), "total": total, "explained": float(values[name].sum())}
    table = pd.DataFrame(values, index=mdata.mod[modality].var_names)
    return Attribution(values=table, summary=pd.DataFrame(summary).T, modality=modality)


def _overview(
    model: MosaicModel, layer: FrozenProjection, modality: str, block: Any, cells: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return latents of cells that have a modality, and the mean of every mapped feature by batch, ``(n_batch, G)``."""
    total = torch.zeros(layer.n_batch + 1, layer.n_features, dtype=torch.float64)
    n, latents = torch.zeros(layer.n_batch + 1, dtype=torch.float64), []
    for minibatch in model.iterate(indices=cells):
        latents.append(model._latent(minibatch, block, modality).float().cpu().numpy())
        values, batch = _map(model, layer, modality, minibatch)
        batch = batch.cpu()
        n += torch.bincount(batch, minlength=len(n))
        if isinstance(values, SparseRows):
            at = batch[values.row_index().cpu()], values.indices.cpu().long()
            total.index_put_(at, values.values.double().cpu(), accumulate=True)
        else:
            total.index_add_(0, batch, values.double().cpu())
    return np.concatenate(latents), (total / n.clamp(min=1)[:, None]).numpy()


def _map(
    model: MosaicModel, layer: FrozenProjection, modality: str, minibatch: MosaicBatch
) -> tuple[SparseRows | torch.Tensor, torch.Tensor]:
    """Return the mapped values of the cells that have a modality, and their batch codes."""
    rows, batch = _rows(model, modality, minibatch)
    batch = torch.where(batch < 0, layer.n_batch, batch)
    return layer.map_values(rows, batch)[0], batch


def _of_cells(
    model: MosaicModel,
    layer: FrozenProjection,
    modality: str,
    block: Any,
    cells: NDArray[np.int64],
    direction: torch.Tensor,
    means: NDArray[np.float64],
    n_steps: int,
) -> tuple[NDArray[np.float64], float]:
    """Return the mean contributions of features, ``(G,)``, and how far the cells lie from an average one."""
    from captum.attr import IntegratedGradients

    minibatch = next(iter(model.iterate(indices=cells, batch_size=len(cells))))
    here = model.module.inputs.present(minibatch)[modality]
    direction = direction.to(here.device)
    called: list[bool] = []

    def forward(x: torch.Tensor) -> torch.Tensor:
        with _instead(layer, x, called):
            z = model._latent(minibatch, block, modality)
        return z[here] @ direction.to(z.dtype)

    with torch.no_grad():
        x = layer(*_rows(model, modality, minibatch))
        average = torch.zeros_like(x)
        total = float((forward(x) - forward(average)).mean())
    if not called:
        raise ValueError(f"{type(model).__name__} does not see {modality!r} through components.")
    with torch.enable_grad():
        slopes = IntegratedGradients(forward, multiply_by_inputs=False).attribute(
            x, average, n_steps=n_steps, internal_batch_size=len(x)
        )
    weight = (layer.weight.double() * layer.scale.double()).cpu().numpy()
    values, batch = _map(model, layer, modality, minibatch)
    dense = values.to_dense(layer.n_features) if isinstance(values, SparseRows) else values
    away, slope = dense.double().cpu().numpy() - means[batch.cpu().numpy()], slopes.detach().double().cpu().numpy()
    if layer.row_standardize:
        weight = weight - weight.mean(axis=1, keepdims=True)
        raw = away @ layer.weight.double().cpu().numpy()
        slope = slope / np.maximum(raw.std(axis=1, keepdims=True), 1e-12)
    return (away * (slope @ weight.T)).mean(axis=0), total


def _rows(model: MosaicModel, modality: str, minibatch: MosaicBatch) -> tuple[SparseRows | torch.Tensor, torch.Tensor]:
    """Return the values of the cells that have a modality, and their batch codes."""
    here = model.module.inputs.present(minibatch)[modality]
    block = minibatch["values"][modality]
    rows = block.drop_empty(here) if isinstance(block, SparseRows) else block[here]
    return rows, minibatch["batch"].ravel()[here]


@contextmanager
def _instead(layer: torch.nn.Module, x: torch.Tensor, called: list[bool]) -> Iterator[None]:
    """Let an input layer give ``x``, whatever it is asked."""

    def give(*_: Any) -> torch.Tensor:
        called.append(True)
        return x

    handle = layer.register_forward_hook(give)
    try:
        yield
    finally:
        handle.remove()
