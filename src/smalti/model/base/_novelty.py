"""Classes that a modality never showed: how unusual a cell is, and what to make of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from smalti._validate import check_choice, check_in_range

from ._labels import most_probable
from ._mosaic_model import positions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mudata import MuData
    from numpy.typing import NDArray

AbsentClass = Literal["auto", "abstain", "off"]
"""What to do with a cell that looks like no class its modality was trained on."""


class NoveltyMixin:
    """``predict`` with a rule for classes absent from a modality; for models whose module has ``references``."""

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
        parts = []
        for tensors in self.iterate(mdata, indices, batch_size):
            table = {}
            for name, here in self.module.inputs.present(tensors).items():
                column = np.full(len(here), np.nan)
                column[here.cpu().numpy()] = 1.0
                if name in list(self.module.references):
                    x = self.module.inputs.encode(tensors, name, here)
                    column[here.cpu().numpy()] = self.module.references[name](x).cpu().numpy()
                table[name] = column
            parts.append(pd.DataFrame(table))
        data = self._validate_anndata(mdata)
        out = pd.concat(parts, ignore_index=True).reindex(columns=self.modalities)
        out.index = data.obs_names[positions(data, indices)]
        return out

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

        A network gives such a class to none of the cells of that modality. The rule looks at cells whose
        :meth:`novelty` is below ``level`` in each modality they are predicted from, provided that these modalities lack
        classes which others have: if exactly one class is absent from all of them, it is that class; if there are
        several and one of them is predicted anyway, the prediction stays; otherwise the label is missing.

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
        novelty = self.novelty(mdata, indices=indices, batch_size=batch_size)
        used = novelty.notna()
        if modality is not None:
            used.loc[:, [name for name in used if name != modality]] = False
        unusual = used.any(axis=1) & ((novelty < level) | ~used).all(axis=1)
        for pattern, cells in used[unusual].groupby(list(used.columns)).groups.items():
            names = [name for name, is_used in zip(used.columns, np.atleast_1d(pattern), strict=True) if is_used]
            missing = set.intersection(*(set(absent[name]) for name in names))
            if not missing:
                continue
            if absent_class == "abstain":
                labels[cells] = None
            elif len(missing) == 1:
                labels[cells] = missing.pop()
            else:
                labels[cells] = labels[cells].where(labels[cells].isin(missing), None)
        return labels
