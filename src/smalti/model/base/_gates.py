"""Gates for users: read as tables, written into the MuData, and diagnosed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from smalti._compat import SETUP_ARGS
from smalti._gate_report import diagnose
from smalti._gate_table import gate_table, group_table, write_gates
from smalti._support import FALSE_SHARE, sentence, too_many
from smalti._validate import check_keys
from smalti.nn import GroupGate

from ._gate_support import GateSupportMixin
from ._local_power import power_sentence

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

LOCAL_SHARE = 0.05
"""Share of the cells in which a local gate must be open for its feature to count as selected."""
N_BOOTSTRAP = 100


class GateMixin(GateSupportMixin):
    """Reading and writing of gates."""

    def gate_names(self) -> list[str]:
        """Return the modalities that have gates."""
        return [name for name, size in self.sizes_.modalities.items() if size.gate]

    def get_gates(self, modality: str) -> pd.DataFrame:
        """Return the gates of a modality, one row per variable.

        Columns are ``selected``; ``gate``, in ``[0, 1]``; ``gate_prob``, the probability to be open; ``effect``, by how
        much the latent of a cell moves (root mean square) if the gate is closed, to first order, which ranks features
        whose gates are equally open; and ``gate_group`` where groups have gates. Of local gates these are means over
        the cells, and a feature is selected if its gate is open in at least 5 % of them.

        Parameters
        ----------
        modality
            Name of the modality.

        Raises
        ------
        KeyError
            If the modality has no gates.
        """
        self._check_gates(modality)
        gate = self.module.inputs.gates[modality]
        names = self.get_var_names()[modality]
        n = len(names)
        values, p, share = np.ones(n), np.ones(n), np.ones(n)
        self.module.eval()
        if gate.shared is not None:
            with torch.no_grad():
                values, p = gate.shared.gates().cpu().numpy(), gate.shared.open_probability().cpu().numpy()
            share = (values > 0).astype(float)
        if gate.local is not None:
            total, n_cells = np.zeros((3, n)), 0
            for _, z, prob in self._local_gates(modality, None):
                total += np.stack([z.sum(axis=0), prob.sum(axis=0), (z > 0).sum(axis=0)])
                n_cells += len(z)
            local = total / max(n_cells, 1)
            values, p, share = values * local[0], p * local[1], share * (local[2] >= LOCAL_SHARE)
        further: dict[str, NDArray[Any]] = {"effect": values * self._effects(modality)}
        if isinstance(gate.shared, GroupGate):
            further["gate_group"] = self._group_codes(gate.shared)
        return gate_table(pd.Index(names), selected=share > 0, gate=values, gate_prob=p, further=further)

    def _check_gates(self, modality: str) -> None:
        check_keys([modality], self.gate_names(), "Gates of modality")

    def write_gates(self, mdata: MuData | None = None, *, groupby: str | None = None) -> None:
        """Write the gates of all modalities that have some.

        ``.var`` gets the columns of :meth:`get_gates` and, from :meth:`gate_support`, ``support`` and ``supported``;
        ``.uns["gates"]`` price, convention, ``n_supported`` and, where groups have gates, the table ``groups``. Local
        gates add ``.obs["n_open"]``, the number of open features of each cell, and with ``groupby`` the table
        ``.varm["gate_by_<groupby>"]``, the share of the cells of each category with an open gate, with 95 % bootstrap
        intervals in ``.uns["gates"]``, and what the locally selected features predict, ``local_power``
        (:meth:`local_gate_power`).

        Parameters
        ----------
        mdata
            Where to write; the training data by default. Local gates are those of its cells.
        groupby
            Column of ``mdata.obs``, such as the cell type.

        Raises
        ------
        ValueError
            If no modality has gates.
        KeyError
            If the column does not exist.
        """
        if not self.gate_names():
            raise ValueError("The model has no gates: set it up with `Modality(gate='global')` for a modality.")
        mdata = self._validate_anndata(mdata)
        if groupby is not None:
            check_keys([groupby], list(mdata.obs), "Column of `mdata.obs`")
        for name in self.gate_names():
            if name not in mdata.mod:
                continue
            adata, gate, table = mdata.mod[name], self.module.inputs.gates[name], self.get_gates(name)
            config = self.sizes_.modalities[name].gate or {}
            uns: dict[str, Any] = {
                "method": type(self).__name__,
                "kind": config["kind"],
                "lam": float(gate.price),
                "keep": gate.keep or -1,
            }
            uns |= {"convention": config["convention"], "sigma": config["sigma"]}
            logged = (self.history_ or {}).get(f"open_{name}_train")
            if logged is not None:
                uns["open_by_epoch"] = np.asarray(logged, dtype=float).ravel()
            if isinstance(gate.shared, GroupGate):
                uns["groups"] = self._group_table(gate.shared, adata, self._spec(name).get("gate_groups"))
            if gate.local is not None:
                self._write_local(mdata, name, groupby, uns)
            if self.adata is not None:
                support = self.gate_support(name)
                uns["n_supported"] = support.n_supported
                if gate.local is not None and groupby is not None:
                    power = self.local_gate_power(name, groupby=groupby if groupby in self.adata.obs else None)
                    uns["local_power"] = power
                    logger.info(power_sentence(name, power, groupby if groupby in self.adata.obs else "the latent"))
                table = table.assign(**support.columns)
            write_gates(adata, table, uns)

    def report_gates(self) -> None:
        """Say how many features are supported; warn, with the remedy, of more selected ones and of gates that failed.

        Gates fail by being all closed, all open or stuck half open.
        """
        for name in self.gate_names():
            gate = self.module.inputs.gates[name]
            if gate.shared is None:
                continue
            table = self.get_gates(name)
            price = f"a price of {gate.penalty:.3g}" if gate.keep is None else f"`gate_keep={gate.keep}`"
            if message := diagnose(name, table["gate_prob"].to_numpy(), table["selected"].to_numpy(), price):
                logger.warning(message)
            self._report_support(name, table["selected"].to_numpy())

    def _report_support(self, name: str, selected: NDArray[np.bool_]) -> None:
        supported = self.gate_support(name).supported
        logger.info(sentence(name, selected, supported, FALSE_SHARE))
        if warning := too_many(name, selected, supported, "`gate_keep=`"):
            logger.warning(warning)

    def _spec(self, name: str) -> dict[str, Any]:
        return dict(self.registry_[SETUP_ARGS]["modalities"][name])

    def _group_codes(self, gate: GroupGate) -> NDArray[np.int64]:
        codes = np.empty(gate.n_features, dtype=np.int64)
        codes[gate.feature.cpu().numpy()] = gate.group.cpu().numpy()
        return codes

    def _group_table(self, gate: GroupGate, adata: Any, column: str | None) -> pd.DataFrame:
        """Return one row per group, the most open first."""
        codes = self._group_codes(gate)
        first = np.unique(codes, return_index=True)[1]
        labels = adata.var_names.to_numpy(object)[first]
        if column in adata.var:
            named = adata.var[column].astype(object).to_numpy()[first]
            labels = np.where(pd.isna(named), labels, named)
        with torch.no_grad():
            return group_table(
                labels,
                gate=gate.group_gates().cpu().numpy(),
                gate_prob=gate.group_probability().cpu().numpy(),
                n_features=gate.size.cpu().numpy(),
            )

    def _local_gates(self, name: str, mdata: MuData | None) -> Any:
        """Yield positions, gates and probabilities of the cells that have the modality, batch by batch."""
        gate, at = self.module.inputs.gates[name], 0
        if gate.local is None:
            return
        for minibatch in self.iterate(mdata, None, 256):
            present = self.module.inputs.present(minibatch)
            here = present.get(name)
            n = len(next(iter(present.values())))
            if here is not None and bool(here.any()):
                context = self.module.inputs.context(minibatch, name, here)
                z = gate.local.gates(context)
                if gate.shared is not None:
                    z = z * gate.shared.gates()
                cells = at + torch.nonzero(here).ravel().cpu().numpy()
                yield cells, z.cpu().numpy(), gate.local.open_probability(context).cpu().numpy()
            at += n

    def _write_local(self, mdata: MuData, name: str, groupby: str | None, uns: dict[str, Any]) -> None:
        adata = mdata.mod[name]
        n_open = pd.Series(0, index=adata.obs_names)
        labels = None if groupby is None else mdata.obs[groupby].astype(object)
        sums: dict[str, list[NDArray[np.float64]]] = {}
        for cells, z, _ in self._local_gates(name, mdata):
            names = mdata.obs_names[cells]
            n_open.loc[names] = (z > 0).sum(axis=1)
            if labels is not None:
                own = labels.iloc[cells].to_numpy()
                for label in pd.unique(own[~pd.isna(own)]):
                    part = z[own == label] > 0
                    sums.setdefault(str(label), []).append(
                        np.vstack([part.sum(axis=0), np.full(z.shape[1], len(part))])
                    )
        adata.obs["n_open"] = n_open.to_numpy()
        if not sums:
            return
        counts = {label: np.sum(blocks, axis=0) for label, blocks in sorted(sums.items())}
        rates = {label: c[0] / c[1] for label, c in counts.items()}
        adata.varm[f"gate_by_{groupby}"] = pd.DataFrame(rates, index=adata.var_names)
        rng = np.random.default_rng(self.random_state)
        for label, c in counts.items():  # a share of independent cells: resampling them is drawing binomial counts
            draws = rng.binomial(c[1].astype(np.int64), rates[label], (N_BOOTSTRAP, len(c[0]))) / c[1]
            low, high = np.quantile(draws, (0.025, 0.975), axis=0)
            uns[f"interval_{label}"] = np.column_stack([low, high])
