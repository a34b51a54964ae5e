"""Preprocessing of a bulk assay, fitted on training samples and applied to any others."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import scipy.sparse as sp

from smalti._errors import NotFittedError
from smalti._validate import check_choice, check_count
from smalti.pp._arrays import as_rows
from smalti.pp._base import plain
from smalti.pp._transforms import PCA

from ._arrays import blocks, column_moments
from ._kinds import KINDS, BulkKind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from smalti.pp._arrays import Floats, Matrix

Scale = Literal["zscore", "minmax"]
BulkKindName = Literal["methylation", "counts", "reals"]


class BulkTransform:
    r"""Filter, transform, scale and, on request, project the values of a bulk assay.

    Everything that is estimated - which features are kept, means for imputation, geometric means behind size factors,
    centre and width of each feature, principal axes - comes from the samples given to :meth:`fit`. Other samples only
    pass through :meth:`transform`, one by one, so that nothing of a test set leaks into training or between test
    samples.

    ================  =====================================================================================
    kind              steps before scaling
    ================  =====================================================================================
    ``methylation``   :class:`Methylation`: probe filter, imputation by the mean, M-values
    ``counts``        :class:`Counts`: filter of low counts, median of ratios, :math:`\log_2(1 + x)`
    ``reals``         :class:`Reals`: imputation by the mean
    ================  =====================================================================================

    Parameters
    ----------
    kind
        What the values are, by name, or with options: ``Counts(positive=True)``.
    scale
        ``"zscore"``: mean 0 and standard deviation 1 over the training samples; ``"minmax"``: the training samples
        span ``[0, 1]``, others may exceed it; ``None``: as they are. A feature that does not vary in training becomes
        0.
    n_components
        Number of principal components of the scaled values, by :class:`PCA`; by default values stay features.
    random_state
        Seed of the starting vector of the decomposition, which is exact; it decides nothing but rounding.

    Attributes
    ----------
    explained
        ``(n_components,)``, share of the variance of the scaled training values along each component, in ``[0, 1]``.

    Examples
    --------
    >>> import numpy as np
    >>> import smalti as sm
    >>> X = np.random.default_rng(0).poisson(50.0, (30, 12))
    >>> transform = sm.pp.BulkTransform("counts").fit(X[:20])
    >>> transform.transform(X[20:]).shape
    (10, 12)
    """

    def __init__(
        self,
        kind: BulkKindName | BulkKind,
        *,
        scale: Scale | None = "zscore",
        n_components: int | None = None,
        random_state: int = 0,
    ) -> None:
        if isinstance(kind, str):
            kind = KINDS[check_choice(kind, list(KINDS), "kind")]()
        elif not isinstance(kind, tuple(KINDS.values())):
            raise TypeError(f"Expected `kind` to be one of {list(KINDS)} or such an object, found {kind!r}.")
        self.kind: BulkKind = kind
        self.scale: Scale | None = check_choice(scale, ["zscore", "minmax", None], "scale")
        self.n_components = None if n_components is None else check_count(n_components, "n_components")
        self.random_state = random_state
        self.explained: Floats = np.zeros(0)
        self._kept: NDArray[np.bool_] | None = None
        self._fitted: dict[str, Floats] = {}
        self._pca: PCA | None = None

    @property
    def kept(self) -> NDArray[np.bool_]:
        """Which of the features that were fitted are used, ``(G,)``."""
        if self._kept is None:
            raise NotFittedError("This BulkTransform was not fitted. Call `fit` first.")
        return self._kept

    @property
    def n_features(self) -> int:
        """Number of features the transform was fitted on."""
        return len(self.kept)

    def __repr__(self) -> str:
        state = "not fitted"
        if self._kept is not None:
            state = f"{self._kept.sum()} of {self._kept.size} features kept"
            if self._pca is not None:
                state += f", {len(self.explained)} components with {self.explained.sum():.0%} of the variance"
        return f"BulkTransform({self.kind!r}, scale={self.scale!r}, {state})"

    def fit(self, X: Matrix) -> Self:
        """Fit to the values of training samples.

        Parameters
        ----------
        X
            ``(n, G)``, on the scale that the kind expects; NaN is missing. Sparse counts and reals stay sparse until
            they are scaled.

        Returns
        -------
        The transform itself.

        Raises
        ------
        ValueError
            If there is no sample, values do not fit the kind, or no feature is left.
        """
        x = as_rows(X)
        if x.shape[0] == 0:
            raise ValueError("Expected at least one sample to fit, found none.")
        kept, own = self.kind.fit(x)
        if not kept.any():
            raise ValueError(
                f"{self.kind!r} keeps none of the {kept.size} features of the {x.shape[0]} samples. Relax its options."
            )
        values = self.kind.values(x[:, kept], own)
        found = column_moments(values)
        g = int(kept.sum())
        varies = found.sd > 1e-7 * np.maximum(np.abs(found.mean), 1e-30)
        centre, width = {
            "zscore": (found.mean, found.sd),
            "minmax": (found.low, found.high - found.low),
            None: (np.zeros(g), np.ones(g)),
        }[self.scale]
        if self.scale is not None:
            width = np.where(varies, width, np.inf)
        self._kept, self._pca, self.explained = kept, None, np.zeros(0)
        self._fitted = own | {"mean": found.mean, "centre": centre, "weight": 1.0 / width}
        if self.n_components is not None:
            pca = PCA(
                self.n_components,
                kind="identity",
                standardize=False,
                batch_center=False,
                random_state=self.random_state,
            ).fit(self._scaled(values))
            total = x.shape[0] * np.sum((found.sd / width) ** 2)
            self._pca, self.explained = pca, pca.singular_values**2 / total
        return self

    def transform(self, X: Matrix) -> NDArray[np.float32]:
        """Return scaled values ``(n, kept features)``, or components ``(n, n_components)``.

        Parameters
        ----------
        X
            ``(n, G)`` values of any samples, on the scale of the fit. Each row is treated by itself.

        Raises
        ------
        ValueError
            If the number of features differs, or values do not fit the kind.
        """
        x = as_rows(X)
        if x.shape[1] != self.n_features:
            raise ValueError(
                f"The BulkTransform was fitted on {self.n_features} features, found {x.shape[1]}. "
                "Pass the same features in the same order, also those that it drops."
            )
        scaled = self._scaled(self.kind.values(x[:, self.kept], self._fitted))
        return scaled if self._pca is None else self._pca.transform(scaled)

    def fit_transform(self, X: Matrix) -> NDArray[np.float32]:
        """Fit and return the result for the same samples."""
        return self.fit(X).transform(X)

    def inverse_transform(self, Z: NDArray[np.floating]) -> NDArray[np.float32]:
        """Undo projection and scaling, for predictions of a model.

        Parameters
        ----------
        Z
            ``(n, kept features)`` or ``(n, n_components)``, as :meth:`transform` returns.

        Returns
        -------
        ``(n, kept features)``: M-values, ``log2(1 + normalised counts)``, or reals. After a projection this is the
        closest that the components can express; a feature that did not vary in training gets its mean.
        """
        z = np.asarray(Z, dtype=np.float64)
        width = len(self.explained) if self._pca is not None else int(self.kept.sum())
        if z.ndim != 2 or z.shape[1] != width:
            raise ValueError(f"Expected an array of shape (n, {width}), found {z.shape}.")
        weight, start = self._fitted["weight"], self._fitted["centre"]
        if self._pca is not None:
            z, start = z @ self._pca.module.weight.cpu().numpy().astype(np.float64).T, self._fitted["mean"]
        start = np.where(weight > 0, start, self._fitted["mean"])
        out: NDArray[np.float32] = (start + np.divide(z, weight, where=weight > 0, out=np.zeros_like(z))).astype(
            np.float32
        )
        return out

    def state(self) -> dict[str, Any]:
        """Return everything that was fitted as plain arrays, numbers and strings, fit for JSON, npz and HDF5."""
        out: dict[str, Any] = {"class": type(self).__name__, "kept": self.kept.copy(), "option_kind": self.kind.name}
        options = {"scale": self.scale, "n_components": self.n_components, "random_state": self.random_state}
        out |= {f"option_{k}": v for k, v in options.items() if v is not None}
        out |= {f"kind_{k}": v for k, v in asdict(self.kind).items()}  # type: ignore[call-overload]
        out |= {f"fitted_{k}": v.copy() for k, v in self._fitted.items()}
        if self._pca is not None:
            out |= {f"pca_{k}": v for k, v in self._pca.state().items()} | {"explained": self.explained.copy()}
        return out

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Return the transform that :meth:`state` describes."""
        check_choice(str(plain(state["class"])), [cls.__name__], "class")
        made = KINDS[check_choice(plain(state["option_kind"]), list(KINDS), "kind")]
        options = {k: plain(state[f"option_{k}"]) for k in ("n_components", "random_state") if f"option_{k}" in state}
        transform = cls(
            made(**{f.name: plain(state[f"kind_{f.name}"]) for f in fields(made)}),
            scale=plain(state["option_scale"]) if "option_scale" in state else None,
            **options,
        )
        transform._kept = np.asarray(state["kept"], dtype=bool)
        transform._fitted = {
            k.removeprefix("fitted_"): np.asarray(v, dtype=np.float64)
            for k, v in state.items()
            if k.startswith("fitted_")
        }
        inner = {k.removeprefix("pca_"): v for k, v in state.items() if k.startswith("pca_")}
        if inner:
            transform._pca = PCA.from_state(inner)
            transform.explained = np.asarray(state["explained"], dtype=np.float64)
        return transform

    def _scaled(self, values: Any) -> Any:
        """Return scaled values; sparse ones stay so, up to their centre, if they are projected next."""
        centre, weight = self._fitted["centre"], self._fitted["weight"]
        if sp.issparse(values) and self.n_components is not None:
            data = values.data * weight[values.indices]
            return type(values)((data, values.indices, values.indptr), shape=values.shape)
        out = np.empty(values.shape, dtype=np.float32)
        for rows, block in blocks(values):
            out[rows] = (block - centre) * weight
        return out
