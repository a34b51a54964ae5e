"""How many features behind the gates of a model are supported, and how far each moves the latent."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from smalti._support import FALSE_SHARE, Support, against_decoys, leave_out, neighbours
from smalti._validate import check_keys
from smalti.data import fit_scaled, looks_like_counts, make_reader
from smalti.nn import DrawnGate, ScaledInput, SparseRows

from ._host import MosaicHost
from ._local_power import local_power

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from numpy.typing import NDArray
    from torch import Tensor

EFFECT_CELLS, EFFECT_PROBES = 512, 16
"""Cells and random directions by which effects of gates are estimated; directions leave an error of about a fifth."""
SUPPORT_CELLS = 1500


class GateSupportMixin(MosaicHost):
    """What features behind gates are worth, judged on the latent of their modality."""

    @contextmanager
    def _gates_changed(self, modality: str, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
        """Replace the gates that all cells share, ones if there are none, ``(G,)``, by a function of them."""
        gate = self.module.inputs.gates[modality]
        before = gate.forward

        def changed(context: Tensor | None = None) -> DrawnGate:
            made = before(context)
            own = torch.ones(gate.n_features, device=gate.log_price.device) if made.shared is None else made.shared
            return DrawnGate(change(own), made.local, made.context, made.mean)

        gate.forward = changed  # type: ignore[method-assign]
        try:
            yield
        finally:
            del gate.forward

    def _latent_behind_gates(self) -> str:
        """Return the block that sees a modality through its gates only."""
        # a model without a block for matching has its own
        return self.aligned_block if self._matching_block() is not None else self.blocks[0]  # type: ignore[attr-defined]

    def _effects(self, modality: str) -> NDArray[np.float64]:
        """Return the change of latents per unit of each feature's gate, ``(G,)``, root mean square over some cells."""
        drawn: dict[str, Tensor] = {}

        def watched(own: Tensor) -> Tensor:
            drawn["gate"] = own.detach().clone().requires_grad_()
            return drawn["gate"]

        here = np.flatnonzero(self.with_modality(None, modality))[:EFFECT_CELLS]
        block, n = self._latent_behind_gates(), self.module.inputs.gates[modality].n_features
        generator, total = torch.Generator().manual_seed(self.random_state), torch.zeros(n)
        with self._gates_changed(modality, watched):
            for minibatch in self.iterate(indices=here, batch_size=EFFECT_CELLS):
                for _ in range(EFFECT_PROBES):  # random signs: the expected square is the sum of squares
                    with torch.enable_grad():
                        z = self._latent(minibatch, block, modality)  # type: ignore[attr-defined]
                        sign = torch.randint(0, 2, z.shape, generator=generator).to(z) * 2 - 1
                        (found,) = torch.autograd.grad((z * sign).sum(), drawn["gate"])
                    total += found.detach().cpu().square() / len(z)
        return (total / EFFECT_PROBES).sqrt().double().numpy()

    def gate_support(self, modality: str, *, false_share: float = FALSE_SHARE) -> Support:
        """Tell features from permuted copies of themselves: how many should be kept at most?

        A twentieth of the gates is closed at a time, and the latent of the modality is computed from the others. Their
        features are compared, on the nearest neighbours of that latent, with copies that are permuted within batches.
        Supported are those above the level that at most ``false_share`` as many copies reach as features do.

        Parameters
        ----------
        modality
            Name of the modality.
        false_share
            Expected share of false ones among supported features.

        Returns
        -------
        Scores (standard deviations of a permuted feature) and flags, ``(n_var,)`` each, and ``n_supported``. Of a
        modality in fewer than 20 cells nothing is supported.

        Raises
        ------
        KeyError
            If the modality has no gates.
        """
        self._check_gates(modality)  # type: ignore[attr-defined]
        here = np.flatnonzero(self.adata_manager.row_maps()[modality] >= 0)
        rng = np.random.default_rng(self.random_state)
        cells = np.sort(rng.choice(here, min(len(here), SUPPORT_CELLS), replace=False))
        n = self.module.inputs.gates[modality].n_features
        if len(cells) < 20:
            return Support(np.zeros(n), np.zeros(n, dtype=bool))
        layer, rows, codes = self._fitted_values(modality, cells)
        found = layer.normalised(rows, torch.from_numpy(codes))
        values = found.to_dense(n) if isinstance(found, SparseRows) else found
        totals = None
        if layer.log:
            totals = (rows.row_sums() if isinstance(rows, SparseRows) else rows.sum(dim=1)).clamp(min=1e-8)
        blocks = (
            (part, values[:, torch.from_numpy(part)], neighbours(self._latent_without(modality, part, cells)))
            for part in leave_out(np.arange(n), self.random_state)
        )
        return against_decoys(blocks, n, codes, totals=totals, false_share=false_share, seed=self.random_state)

    def _fitted_values(
        self, modality: str, cells: NDArray[np.int64]
    ) -> tuple[ScaledInput, SparseRows | Tensor, NDArray[np.int64]]:
        """Return what standardises the values of some cells within batches, their raw values, and codes of batches."""
        manager = self.adata_manager
        n = self.module.inputs.gates[modality].n_features
        field = next(f for f in manager.modality_fields if f.name == modality)
        x = field.get_field_data(manager.adata)[manager.row_maps()[modality][cells]]
        codes = np.unique(self._batch_names(cells), return_inverse=True)[1].astype(np.int64)
        layer = fit_scaled(ScaledInput(n, int(codes.max()) + 1, log=looks_like_counts(x)), x, codes)
        return layer, make_reader(x).read(np.arange(len(cells))), codes

    def local_gate_power(self, modality: str, *, groupby: str | None = None) -> pd.DataFrame:
        """Say what the features that local gates select predict, against as many others, for held-out cells.

        Parameters
        ----------
        modality
            Name of a modality with local gates.
        groupby
            Column of ``mdata.obs`` of the training data that is predicted, such as the cell type (balanced accuracy);
            by default the latent of the model (:math:`R^2`), which favours the gates that it was made with.

        Returns
        -------
        Rows ``local``, ``global``, ``random`` and ``pattern``; columns ``n_features`` and ``score``. The pattern is
        that of open gates without values: local gates can name a cell by it, and where it predicts as well as
        ``local``, the selected values add nothing.

        Raises
        ------
        KeyError
            If the modality has no gates, or the column does not exist.
        ValueError
            If its gates are not local.
        """
        self._check_gates(modality)  # type: ignore[attr-defined]
        if self.module.inputs.gates[modality].local is None:
            raise ValueError(f"Gates of modality {modality!r} are the same for all cells: see `gate_support`.")
        mdata = self._validate_anndata(None)
        here = self.with_modality(None, modality)
        if groupby is not None:
            check_keys([groupby], list(mdata.obs), "Column of `mdata.obs`")
            here = here & mdata.obs[groupby].notna().to_numpy()
        rng = np.random.default_rng(self.random_state)
        cells = np.sort(rng.permutation(np.flatnonzero(here))[:SUPPORT_CELLS])
        layer, rows, codes = self._fitted_values(modality, cells)
        values = layer(rows, torch.from_numpy(codes)).clamp_(-10, 10)
        target: NDArray[Any]
        if groupby is not None:
            target = mdata.obs[groupby].iloc[cells].astype(str).to_numpy()
        else:
            target = self.get_latent_representation(indices=cells)  # type: ignore[attr-defined]
        at = np.full(mdata.n_obs, -1)
        at[cells] = np.arange(len(cells))
        gates = np.zeros(values.shape, dtype=np.float32)
        for found, z, _ in self._local_gates(modality, None):  # type: ignore[attr-defined]
            known = at[found] >= 0
            gates[at[found[known]]] = z[known]
        return local_power(values.numpy(), gates, target, random_state=self.random_state)

    def _batch_names(self, cells: NDArray[np.int64]) -> NDArray[np.int64]:
        dataset = self.adata_manager.create_torch_dataset(cells)
        return np.asarray(dataset[np.arange(len(cells))]["batch"]).ravel().astype(np.int64)

    def _latent_without(self, modality: str, columns: NDArray[np.int64], cells: NDArray[np.int64]) -> Tensor:
        """Return the latent of a modality with the gates of some features closed, ``(n, d)``."""
        block = self._latent_behind_gates()

        def without(own: Tensor) -> Tensor:
            out = own.clone()
            out[torch.from_numpy(columns).to(out.device)] = 0
            return out

        with self._gates_changed(modality, without):
            parts = [self._latent(b, block, modality).float().cpu() for b in self.iterate(indices=cells)]  # type: ignore[attr-defined]
        return torch.cat(parts)
