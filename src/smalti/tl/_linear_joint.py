"""The linear latent for looking at: shared axes beside completed modalities, batches and presence patterns mixed."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smalti._mudata import check_mudata
from smalti._validate import check_count, check_keys
from smalti.data import CategoryField, row_maps
from smalti.pp import LinearJoint, apply, choose_n_components, default_transform, fit_modality, linked_modalities

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.pp import LinearTransform, ModalityTransform

logger = logging.getLogger(__name__)

CANDIDATES = (15, 20, 30)
"""Numbers of components that cross-validation chooses from, as for the inputs of networks."""
PAIRS_PER_COMPONENT = 20
"""Pairs needed per component: axes that few pairs support carry batches and patterns instead (two days of spleen with
410 pairs: 20 components mix the days far better than 50 do)."""
FALLBACK = 30
MIN_PAIRS = 50


@dataclass(frozen=True)
class LinearJointResult:
    """What :func:`linear_joint` fitted; applies to any cells.

    Parameters
    ----------
    transforms
        ``{modality: fitted transform}``.
    joint
        The fitted latent.
    n_components
        Leading components of each modality that entered.
    batch_key
        Column of ``mdata.obs`` with batches; ``None`` if there are none.
    """

    transforms: dict[str, ModalityTransform]
    joint: LinearJoint
    n_components: int
    batch_key: str | None

    @property
    def correlations(self) -> NDArray[np.float64]:
        """Canonical correlations of the shared axes on held-out paired cells, ``(n_axes,)``; empty without pairs."""
        return np.zeros(0) if self.joint.cca is None else self.joint.cca.correlations

    def __repr__(self) -> str:
        lines = [f"Linear joint latent of {len(self.transforms)} modalities, {self.n_components} components each"]
        lines += [f"  {name}: {fitted.transform!r}" for name, fitted in self.transforms.items()]
        return "\n".join([*lines, f"  {self.joint!r}"])

    def transform(self, mdata: MuData) -> NDArray[np.float32]:
        """Return the latent of every cell, ``(n_obs, d)``, in the order of ``mdata.obs_names``, without a refit.

        Parameters
        ----------
        mdata
            Any mosaic with at least one of the modalities, with the features of the fit and, if the fit had batches,
            the same column. A cell with none of the modalities gets NaN. A batch that is new is placed as it is.

        Raises
        ------
        KeyError
            If the column of batches is lacking.
        """
        names = [name for name in self.transforms if name in mdata.mod]
        check_keys(names or list(self.transforms), list(mdata.mod), "Modality")
        inputs = {name: apply(mdata, name, self.transforms[name])[:, : self.n_components] for name in names}
        return self.joint.transform(inputs, row_maps(mdata, names), _batches(mdata, self.batch_key))


def linear_joint(
    mdata: MuData,
    *,
    modalities: Sequence[str] | None = None,
    n_components: int | None = None,
    shrinkage: float = 0.3,
    ridge: float = 0.01,
    batch_key: str | None = None,
    layers: Mapping[str, str] | None = None,
    transforms: Mapping[str, LinearTransform] | None = None,
    random_state: int = 0,
    key_added: str = "X_joint",
) -> LinearJointResult:
    """Integrate a mosaic linearly for analysis: types kept, batches and presence patterns mixed, in seconds.

    What modalities share (axes of canonical correlation) stands beside what each of them says alone, completed where it
    was not measured; Harmony mixes batches and presence patterns :cite:p:`Korsunsky2019`. All maps are kept: new cells
    of known batches need no refit. For finding a cell's partner use :func:`linear_cca`.

    Parameters
    ----------
    mdata
        The mosaic. Raw values.
    modalities
        Modalities to use; all by default.
    n_components
        Leading components of each modality; by default chosen among 15 to 30 by cross-validation on paired cells, at
        most one per 20 pairs.
    shrinkage
        Weight of a cell's neighbours in all batches and patterns, in ``[0, 1]``, see
        :class:`smalti.pp.NeighbourShrinkage`; 0 leaves cells where they are.
    ridge
        Regularisation, see :class:`smalti.pp.LinearJoint`.
    batch_key
        Column of ``mdata.obs`` with the batches to mix. Biology that is confounded with batches is removed with them.
    layers
        Layer with raw values by modality; ``.X`` where not given.
    transforms
        Transform by modality, fitted here; by default chosen by :func:`smalti.pp.default_transform` from the values.
    random_state
        Seed of folds, decompositions and clusters.
    key_added
        The latent goes to ``mdata.obsm[key_added]``.

    Returns
    -------
    The fitted transforms and maps.

    Examples
    --------
    >>> import smalti as sm
    >>> mdata = sm.datasets.pbmc_mosaic()
    >>> result = sm.tl.linear_joint(mdata, batch_key="batch")
    >>> mdata.obsm["X_joint"].shape[0] == mdata.n_obs
    True
    """
    check_mudata(mdata)
    names = list(mdata.mod) if modalities is None else list(modalities)
    layers, transforms = layers or {}, transforms or {}
    check_keys([*layers, *transforms], names, "Modality of `layers` or `transforms`")
    batches, maps = _batches(mdata, batch_key), row_maps(mdata, names)
    most = max(CANDIDATES) if n_components is None else check_count(n_components, "n_components")
    fitted, inputs = {}, {}
    for name in names:
        layer, transform = layers.get(name), transforms.get(name)
        if transform is None:
            adata = mdata.mod[name]
            x = adata.X if layer is None else adata.layers[layer]
            transform = default_transform(x, n_components=most, random_state=random_state)
        fitted[name] = fit_modality(mdata, name, transform, layer=layer, batch_key=batch_key)
        inputs[name] = apply(mdata, name, fitted[name])
    if n_components is None:
        n_components = _choose(inputs, maps, random_state)
    inputs = {name: z[:, :n_components] for name, z in inputs.items()}
    joint = LinearJoint(ridge=ridge, shrinkage=shrinkage, random_state=random_state).fit(inputs, maps, batches)
    mdata.obsm[key_added] = joint.transform(inputs, maps, batches)
    return LinearJointResult(fitted, joint, n_components, batch_key)


def _batches(mdata: MuData, batch_key: str | None) -> NDArray[np.str_] | None:
    if batch_key is None:
        return None
    CategoryField("batch", batch_key).validate_field(mdata)
    column: NDArray[np.str_] = mdata.obs[batch_key].astype(str).to_numpy()
    return column


def _choose(inputs: Mapping[str, NDArray[np.float32]], maps: Mapping[str, NDArray[np.int64]], random_state: int) -> int:
    linked = linked_modalities(maps)
    present = np.column_stack([maps[name] >= 0 for name in linked])
    n_pairs = int((present.sum(axis=1) >= 2).sum())
    if len(linked) < 2 or n_pairs < MIN_PAIRS:
        logger.info("%d paired cells are too few to choose by: %d components.", n_pairs, FALLBACK)
        return FALLBACK
    most = max(CANDIDATES[0], n_pairs // PAIRS_PER_COMPONENT)
    candidates = [c for c in CANDIDATES if c <= most]
    return int(
        choose_n_components(
            {name: inputs[name] for name in linked},
            {name: maps[name] for name in linked},
            candidates=candidates,
            random_state=random_state,
        )
    )
