"""Classes that a modality never showed: how unusual a cell is, and what to make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from smalti._validate import check_choice, check_in_range
from smalti.model.base import LabelMixin, most_probable, positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from ._module import MODISModule

AbsentClass = Literal["auto", "abstain", "off"]
"""What to do with a cell that looks like no class its modality was trained on."""


class NoveltyMixin(LabelMixin):
    """``predict`` with a rule for classes absent from a modality."""

    module: MODISModule

    def absent_classes(self) -> dict[str, list[str]]:
        """Return, by modality, the classes that are labelled in other modalities but not in this one."""
        references = {name: reference.count.cpu().numpy() > 0 for name, reference in self.module.references.items()}
        if not references:
            return {name: [] for name in self.modalities}
        anywhere = np.logical_or.reduce(list(references.values()))
        names = np.asarray(self.label_categories)
        return {
            name: names[anywhere & ~references[name]].tolist() if name in references else [] for name in self.modalities
        }

    def novelty(
        self,
        mdata: MuData | None = None,
        *,
        indices: Sequence[int] | NDArray[Any] | None = None,
        batch_size: int | None = None,
    ) -> pd.DataFrame:
        """Return how far cells are from every class that each of their modalities was trained on.

        The distance is Euclidean after whitening the encoder input by the common covariance within classes.

        Parameters
        ----------
        mdata, indices, batch_size
            As in :meth:`get_latent_representation`.

        Returns
        -------
        ``(n, M)``: share of labelled training samples, left out of centres and covariance, that are at least as far;
        in [0, 1], near 0 for a cell unlike all classes. Missing where a modality is absent; 1 where fewer than 20
        labelled samples leave it open.
        """
        return self._unusual(mdata, indices, batch_size)[0]

    def _unusual(
        self, mdata: MuData | None, indices: Sequence[int] | NDArray[Any] | None, batch_size: int | None
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return by cell and modality: novelty, the nearest inferred class, how much nearer it is than known ones."""
        rows: list[tuple[pd.DataFrame, ...]] = []
        names = np.array([*self._label_names(), None], dtype=np.object_)
        for minibatch in self.iterate(mdata, indices, batch_size):
            novelty, closest, margin = {}, {}, {}
            for name, here in self.module.inputs.present(minibatch).items():
                at, n = here.cpu().numpy(), len(here)
                novelty[name] = np.where(at, 1.0, np.nan)
                closest[name], margin[name] = np.full(n, None, dtype=object), np.full(n, -np.inf)
                if name in self.module.references and at.any():
                    x, reference = self.module.inputs.encode(minibatch, name, here), self.module.references[name]
                    kind, gain = reference.inferred_class(x)
                    novelty[name][at] = reference(x).cpu().numpy()
                    closest[name][at], margin[name][at] = names[kind.cpu().numpy()], gain.cpu().numpy()
            rows.append(tuple(pd.DataFrame(table, dtype=object) for table in (novelty, closest, margin)))
        data = self._validate_anndata(mdata)
        out = [pd.concat(part, ignore_index=True).reindex(columns=self.modalities) for part in zip(*rows, strict=True)]
        for table in out:
            table.index = data.obs_names[positions(data, indices)]
        return out[0].astype(float), out[1], out[2].astype(float)

    def predict(
        self,
        mdata: MuData | None = None,
        *,
        modality: str | None = None,
        indices: Sequence[int] | NDArray[Any] | None = None,
        absent_class: AbsentClass = "auto",
        level: float = 0.01,
        batch_size: int | None = None,
    ) -> pd.Series:
        """Return the label of every cell, with a rule for classes that a modality was never trained on.

        A network gives such a class to none of the cells of that modality. The rule looks at cells that in each
        modality they are predicted from have a :meth:`novelty` below ``level``, or are nearer to the inferred centre
        of one and the same absent class than to that of any known one. Of
        classes absent from all these modalities, such a cell gets the only one, or the nearest; if it is unusual and
        nothing could be inferred, the prediction stays if it is one of them, otherwise the label is missing.

        Parameters
        ----------
        mdata, modality, indices, batch_size
            As in :meth:`get_latent_representation`.
        absent_class
            ``"auto"`` for this rule; ``"abstain"``: such cells get no label; ``"off"``: no rule.
        level
            Share of cells of known classes that may be taken for another, in [0, 1].

        Returns
        -------
        ``(n,)``, indexed by cell name in the order of ``mdata.obs_names``; missing for cells without ``modality`` and
        where the rule abstains.

        Raises
        ------
        ValueError
            As in :meth:`predict_proba`, or if ``absent_class`` or ``level`` is not valid.
        """
        check_choice(absent_class, ("auto", "abstain", "off"), "absent_class")
        check_in_range(level, 0, 1, "level")
        labels = most_probable(self.predict_proba(mdata, modality=modality, indices=indices, batch_size=batch_size))
        absent = self.absent_classes()
        if absent_class == "off" or not any(absent.values()):
            return labels
        novelty, closest, margin = self._unusual(mdata, indices, batch_size)
        used = novelty.notna()
        if modality is not None:
            used.loc[:, [name for name in used if name != modality]] = False
        unusual = ((novelty < level) | ~used).all(axis=1)
        for pattern, cells in used.groupby(list(used.columns)).groups.items():
            names = [name for name, is_used in zip(used.columns, np.atleast_1d(pattern), strict=True) if is_used]
            missing = set.intersection(*(set(absent[name]) for name in names)) if names else set()
            if not missing:
                continue
            agreed = closest.loc[cells, names[0]].where(closest.loc[cells, names].nunique(axis=1, dropna=False) == 1)
            agreed = agreed.where(agreed.isin(missing))
            nearer = agreed.notna() & (margin.loc[cells, names] > 0).all(axis=1)
            unlike_known = unusual[cells] | nearer
            if absent_class == "abstain":
                labels[cells] = labels[cells].mask(unlike_known, None)
                continue
            known = labels[cells].where(labels[cells].isin(missing), None)
            found = agreed.where(agreed.notna(), missing.pop() if len(missing) == 1 else known)
            labels[cells] = labels[cells].mask(unlike_known, found)
        return labels
