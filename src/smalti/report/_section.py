"""What a section of the page is made of, and what all sections look at."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from smalti import tl
from smalti._compat import SETUP_ARGS
from smalti._mudata import build_mudata
from smalti.data import find_patterns, presence

if TYPE_CHECKING:
    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.model.base import MosaicModel

Level = Literal["good", "attention", "unknown"]
MODEL_COLORS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")


@dataclass(kw_only=True)
class Section:
    """A section: what is shown, and the sentence that it ends in."""

    key: str
    """Anchor in the page."""
    title: str
    """Heading."""
    text: str
    """What the reader sees, in a sentence or two."""
    level: Level = "unknown"
    """Whether the sentence is good news, a reason to look closer, or says that nothing is known."""
    verdict: str = ""
    """The sentence at the end: finding, threshold, baseline and null."""
    figures: list[dict[str, Any]] = field(default_factory=list)
    """Pictures as plotly takes them, ``{"data": [...], "layout": {...}}``."""
    tables: list[pd.DataFrame] = field(default_factory=list)
    """Tables, shown with their index."""
    notes: list[str] = field(default_factory=list)
    """Remarks."""
    scores: dict[str, float] = field(default_factory=dict)
    """Numbers for the machine-readable file."""
    code: str = ""
    """Lines to copy."""


class Facts:
    """The model, its data, and what several sections need; computed when first asked for."""

    def __init__(
        self,
        model: MosaicModel,
        mdata: MuData,
        *,
        batch_key: str | None,
        labels_key: str | None,
        random_state: int,
    ) -> None:
        self.model: Any = model
        self.mdata = mdata
        self.setup: dict[str, Any] = dict(model.registry_[SETUP_ARGS])
        self.batch_key = batch_key or self._known(self.setup.get("batch_key"))
        self.labels_key = labels_key or self._known(self.setup.get("labels_key"))
        self.random_state = random_state
        self.own = mdata is model.adata
        self.names = [name for name in model.modalities if name in mdata.mod]

    def _known(self, key: str | None) -> str | None:
        return key if key is not None and key in self.mdata.obs else None

    @cached_property
    def presence(self) -> NDArray[np.bool_]:
        """``(n_obs, M)``."""
        return presence(self.mdata, self.names)

    @cached_property
    def patterns(self) -> pd.Series:
        """What each cell was measured in, ``"rna + adt"``."""
        found = find_patterns(self.presence)
        titles = [" + ".join(np.asarray(self.names)[row]) or "nothing" for row in found.rows]
        return pd.Series(pd.Categorical.from_codes(found.group, titles), index=self.mdata.obs_names)

    @cached_property
    def batch(self) -> NDArray[Any] | None:
        """Batch of every cell as text."""
        return None if self.batch_key is None else tl.read_column(self.mdata, self.batch_key, None)

    @cached_property
    def labels(self) -> NDArray[Any] | None:
        """Label of every cell as text, None where it has none."""
        if self.labels_key is None:
            return None
        return tl.read_column(self.mdata, self.labels_key, self.setup.get("unlabeled_category") or "unknown")

    @cached_property
    def latent(self) -> NDArray[Any]:
        """The latent to look at, ``(n_obs, d)``."""
        return np.asarray(self.model.get_latent_representation(None if self.own else self.mdata))

    @cached_property
    def layers(self) -> dict[str, str]:
        """Layer with values by modality, where it is not ``.X``."""
        fields = self.model.adata_manager.modality_fields if self.model.adata is not None else []
        return {f.name: f.spec.layer for f in fields if f.name in self.names and f.spec.layer is not None}

    @cached_property
    def shallow(self) -> MuData:
        """The same data in a new MuData, so that tools that write results leave the user's alone."""
        return self.subset(np.arange(self.mdata.n_obs), self.names, copy=False)

    def subset(self, cells: NDArray[Any], names: list[str], *, copy: bool = True) -> MuData:
        """Return some cells in some modalities as a MuData of its own; cells with none of them are left out."""
        chosen = self.mdata.obs_names[cells]
        parts = {}
        for name in names:
            adata = self.mdata.mod[name]
            keep = np.flatnonzero(adata.obs_names.isin(chosen))
            if len(keep):
                parts[name] = adata[keep].copy() if copy or len(keep) < adata.n_obs else adata
        return build_mudata(parts, obs=self.mdata.obs.loc[chosen])

    @cached_property
    def linear_joint(self) -> NDArray[Any] | None:
        """The linear joint latent (linear CCA and Harmony) of all cells; ``None`` if it cannot be had."""
        data = self.shallow
        try:
            tl.linear_joint(
                data,
                modalities=self.names,
                batch_key=self.batch_key,
                layers=self.layers,
                random_state=self.random_state,
            )
        except ValueError:
            return None
        place = data.obs_names.get_indexer(self.mdata.obs_names)
        z = np.asarray(data.obsm["X_joint"])
        return np.where(place[:, None] >= 0, z[place], np.nan)

    @cached_property
    def validation(self) -> NDArray[np.int64]:
        """Cells of these data that the model was not trained on."""
        held = self.model.validation_indices_ if self.own else None
        return np.asarray([] if held is None else held, dtype=np.int64)


def percent(share: float) -> str:
    """Return a share as text."""
    return f"{share:.1%}" if 0 < share < 0.1 else f"{share:.0%}"


def axis(title: str = "", **more: Any) -> dict[str, Any]:
    """Return an axis of a picture."""
    return {"title": {"text": title}, "automargin": True, "zeroline": False, **more}
