"""Which transform suits a modality, decided by its values and never by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smalti._validate import check_choice
from smalti.data import infer_encoder_input, infer_likelihood

from ._transforms import CLR, LSI, PCA

if TYPE_CHECKING:
    from ._arrays import Matrix
    from ._base import LinearTransform

TRANSFORMS = ("lsi", "pca", "clr")


def make_transform(
    kind: str,
    *,
    counts: bool,
    n_components: int = 30,
    batch_center: bool = True,
    random_state: int = 0,
) -> LinearTransform:
    """Return the unfitted transform of a named encoder input.

    Parameters
    ----------
    kind
        ``"lsi"``, ``"pca"`` or ``"clr"``.
    counts
        Whether values are counts; ``"pca"`` of reals standardises features instead of taking logarithms.
    n_components, batch_center, random_state
        Passed to the transform.
    """
    check_choice(kind, TRANSFORMS, "kind")
    if kind == "lsi":
        return LSI(n_components, batch_center=batch_center, random_state=random_state)
    if kind == "clr":
        return CLR(n_components, batch_center=batch_center, random_state=random_state)
    return PCA(
        n_components, kind="tfidf" if counts else "identity", batch_center=batch_center, random_state=random_state
    )


def default_transform(
    X: Matrix,
    *,
    n_components: int = 30,
    batch_center: bool = True,
    random_state: int = 0,
) -> LinearTransform:
    """Return an unfitted transform that suits the values of a modality.

    The rules are those of models (:func:`smalti.data.infer_likelihood`, :func:`smalti.data.infer_encoder_input`):

    ==========================================================================  ====================================
    values                                                                      transform
    ==========================================================================  ====================================
    any negative or not whole                                                   ``PCA(kind="identity")``, standardised
    counts, at least 90 % of the non-zero ones equal to 1                       :class:`LSI`
    counts, more than half of them non-zero, at most 1,000 features             :class:`CLR`
    other counts                                                                :class:`PCA`
    ==========================================================================  ====================================

    Parameters
    ----------
    X
        ``(n, G)`` raw values, sparse or dense.
    n_components, batch_center, random_state
        Passed to the transform.
    """
    likelihood = infer_likelihood(X)
    return make_transform(
        infer_encoder_input(X, likelihood),
        counts=likelihood != "gaussian",
        n_components=n_components,
        batch_center=batch_center,
        random_state=random_state,
    )
