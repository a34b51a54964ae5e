"""The linear latent for looking at: shared axes beside completed modalities, batches and presence patterns mixed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from smalti._validate import check_text
from smalti.pp import N_COMPONENTS, LinearJoint

from ._linear_inputs import apply_linear_inputs, batch_names, fit_linear_inputs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mudata import MuData
    from numpy.typing import NDArray

    from smalti.pp import LinearTransform, ModalityTransform


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
        values, maps = apply_linear_inputs(mdata, self.transforms, self.n_components)
        return self.joint.transform(values, maps, batch_names(mdata, self.batch_key))


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
    check_text(key_added, "key_added")
    seen = fit_linear_inputs(
        mdata,
        modalities=modalities,
        n_components=n_components,
        candidates=N_COMPONENTS,
        ridge=ridge,
        batch_key=batch_key,
        layers=layers,
        transforms=transforms,
        random_state=random_state,
        every_cell=True,
    )
    joint = LinearJoint(ridge=ridge, shrinkage=shrinkage, random_state=random_state)
    joint.fit(seen.values, seen.maps, seen.batch)
    mdata.obsm[key_added] = joint.transform(seen.values, seen.maps, seen.batch)
    return LinearJointResult(seen.transforms, joint, seen.n_components, batch_key)
