"""The latent for analysis, kept with the network: fitted once after training, applied to any cells."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.decomposition import PCA
from torch import nn

from smalti._errors import NotFittedError
from smalti.pp import LinearJoint, components_by_pairs

from ._state import from_tensors, to_tensors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    Inputs = Mapping[str, NDArray[np.float32]]
    Maps = Mapping[str, NDArray[np.int64]]

MAX_COLUMNS = 50
"""Columns of an encoder input that enter as they are; of wider ones (standardised features) the leading components."""
N_COMPONENTS = 30


class JointReadout(nn.Module):
    """A fitted :class:`~smalti.pp.LinearJoint` among the weights of a network, to be stored and moved with them.

    It has no parameters: training does not change it. Before :meth:`fit` its state is empty.
    """

    sizes_itself = True

    def __init__(self) -> None:
        super().__init__()
        self.joint: LinearJoint | None = None
        self.n_components: int | None = None
        self.projections: dict[str, dict[str, NDArray[np.float32]]] = {}

    @property
    def ready(self) -> bool:
        """Whether it was fitted."""
        return self.joint is not None

    def fit(
        self,
        inputs: Inputs,
        maps: Maps,
        batch: NDArray[np.str_],
        *,
        latent: NDArray[np.float32] | None = None,
        random_state: int = 0,
    ) -> None:
        """Fit to all cells of the data.

        Parameters
        ----------
        inputs, maps
            Encoder inputs and the row of every cell in them, -1 where absent; cells without any are left out.
        batch
            ``(n_obs,)`` names of batches.
        latent
            ``(n_obs, q)`` axes of the network that enter beside those of linear CCA.
        random_state
            Seed.
        """
        self.projections = {}
        for name, x in inputs.items():
            if x.shape[1] > MAX_COLUMNS:
                pca = PCA(min(N_COMPONENTS, *x.shape), random_state=random_state).fit(x)
                axes = pca.components_.T.astype(np.float32)
                self.projections[name] = {"mean": pca.mean_.astype(np.float32), "axes": axes}
        here = np.column_stack([maps[name] >= 0 for name in inputs]).any(axis=1)
        self.n_components = None
        codes = np.unique(batch, return_inverse=True)[1]
        self.n_components = components_by_pairs(
            self._narrow(inputs), maps, batch=codes, random_state=random_state, warn=False
        )
        self.joint = LinearJoint(random_state=random_state).fit(
            self._narrow(inputs),
            {name: maps[name][here] for name in inputs},
            batch[here],
            latent=None if latent is None else latent[here],
        )

    def transform(
        self,
        inputs: Inputs,
        maps: Maps,
        batch: NDArray[np.str_],
        *,
        latent: NDArray[np.float32] | None = None,
        mix: bool = True,
    ) -> NDArray[np.float32]:
        """Return the latent of any cells, ``(n, d)``; NaN for those that have none of the inputs.

        ``mix=False`` leaves batches and presence patterns where they lie.
        """
        if self.joint is None:
            raise NotFittedError("There is no joint latent before `train`.")
        return self.joint.transform(self._narrow(inputs), maps, batch, latent=latent, mix=mix)

    def _narrow(self, inputs: Inputs) -> dict[str, NDArray[np.float32]]:
        out = {}
        for name, x in inputs.items():
            p = self.projections.get(name)
            leading = x if p is None else ((x - p["mean"]) @ p["axes"]).astype(np.float32)
            out[name] = leading[:, : self.n_components]
        return out

    # ------------------------------------------------------------------ as weights

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        if self.joint is None:
            return
        state = {"joint": self.joint.state(), "projections": self.projections, "n_components": self.n_components}
        for name, value in to_tensors(state).items():
            destination[prefix + name] = value

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *args: Any, **kwargs: Any) -> None:
        state = from_tensors(state_dict, prefix)
        self.joint = None if state is None else LinearJoint.from_state(state["joint"])
        self.projections = {} if state is None else state["projections"]
        self.n_components = None if state is None else state.get("n_components")  # all of them before 0.2
