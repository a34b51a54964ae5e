"""What InterSIM knows of real data: means, covariances and links of methylation, expression and protein."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from smalti._errors import UnsafeFileError
from smalti._validate import check_keys, check_unique

from ._intersim_estimate import estimate

if TYPE_CHECKING:
    from pathlib import Path

    from mudata import MuData
    from numpy.typing import NDArray

NAMES = ("cpg_names", "gene_names", "protein_names", "cpg_gene", "protein_gene")
SIZES = {"mean_M": "J", "mean_expr": "G", "mean_protein": "P"}
SIZES |= {"methyl_gene_level_mean": "G", "rho_methyl_expr": "G", "rho_expr_protein": "P", "cpg_gene": "J"}
SIZES |= {"protein_gene": "P", "cov_M": "JJ", "cov_expr": "GG", "cov_protein": "PP"}


@dataclass(frozen=True, eq=False, repr=False)
class InterSIMParameters:
    """Parameters of :func:`~smalti.simulate.intersim` :cite:p:`Chalise2016`: J CpGs, G genes and P proteins.

    Every array is checked when an object is made; :func:`dataclasses.replace` changes single ones.

    Parameters
    ----------
    cpg_names, gene_names, protein_names
        ``(J,)``, ``(G,)``, ``(P,)`` names of features, unique within each.
    cpg_gene, protein_gene
        ``(J,)``, ``(P,)`` the one gene, of ``gene_names``, that a CpG or protein belongs to.
    mean_M, cov_M
        ``(J,)``, ``(J, J)`` mean and covariance of M-values, the natural logit of beta values.
    mean_expr, cov_expr
        ``(G,)``, ``(G, G)`` mean and covariance of expression, on any real scale.
    mean_protein, cov_protein
        ``(P,)``, ``(P, P)`` mean and covariance of protein abundance, on any real scale.
    methyl_gene_level_mean
        ``(G,)`` mean M-value of a gene.
    rho_methyl_expr
        ``(G,)`` correlation of the gene's methylation with its expression, in [-1, 1].
    rho_expr_protein
        ``(P,)`` correlation of a protein with the expression of its gene, in [-1, 1].

    Raises
    ------
    KeyError
        If a CpG or protein belongs to a gene that is not in ``gene_names``.
    ValueError
        If a shape does not fit, names repeat, a number is missing, a correlation is outside [-1, 1], or a covariance
        is not symmetric and positive definite.
    """

    cpg_names: NDArray[np.str_]
    gene_names: NDArray[np.str_]
    protein_names: NDArray[np.str_]
    cpg_gene: NDArray[np.str_]
    protein_gene: NDArray[np.str_]
    mean_M: NDArray[np.float64]
    cov_M: NDArray[np.float64]
    mean_expr: NDArray[np.float64]
    cov_expr: NDArray[np.float64]
    mean_protein: NDArray[np.float64]
    cov_protein: NDArray[np.float64]
    methyl_gene_level_mean: NDArray[np.float64]
    rho_methyl_expr: NDArray[np.float64]
    rho_expr_protein: NDArray[np.float64]

    def __post_init__(self) -> None:
        for field in fields(self):
            kind = str if field.name in NAMES else np.float64
            object.__setattr__(self, field.name, np.asarray(getattr(self, field.name), dtype=kind))
        sizes = {}
        for letter, key in zip("JGP", NAMES[:3], strict=True):
            names = getattr(self, key)
            if names.ndim != 1 or not len(names):
                raise ValueError(f"Expected `{key}` to be a list of at least one name, found shape {names.shape}.")
            check_unique(names, f"`{key}`")
            sizes[letter] = len(names)
        for key, letters in SIZES.items():
            expected, found = tuple(sizes[letter] for letter in letters), getattr(self, key).shape
            if found != expected:
                raise ValueError(f"Expected `{key}` to have shape {expected}, as the names say, found {found}.")
        for key in ("cpg_gene", "protein_gene"):
            check_keys(np.unique(getattr(self, key)), set(self.gene_names), f"Gene in `{key}`")
        for key in SIZES.keys() - set(NAMES):
            self._check_numbers(key)

    def _check_numbers(self, key: str) -> None:
        values = getattr(self, key)
        if not np.isfinite(values).all():
            raise ValueError(f"Expected `{key}` to be finite, found {int((~np.isfinite(values)).sum())} other values.")
        if key.startswith("rho") and np.abs(values).max() > 1:
            raise ValueError(f"Expected `{key}` to be in interval [-1, 1], found {values[np.abs(values).argmax()]!r}.")
        if key.startswith("cov"):
            if not np.allclose(values, values.T):
                raise ValueError(f"Expected `{key}` to be symmetric, found differences of {np.ptp(values - values.T)}.")
            try:
                np.linalg.cholesky(values)
            except np.linalg.LinAlgError:
                raise ValueError(
                    f"Expected `{key}` to be positive definite, found a smallest eigenvalue of "
                    f"{np.linalg.eigvalsh(values)[0]:.3g}. Shrink it towards its diagonal first."
                ) from None

    def __repr__(self) -> str:
        sizes = f"{len(self.cpg_names)} CpGs, {len(self.gene_names)} genes, {len(self.protein_names)} proteins"
        return f"{type(self).__name__}({sizes})"

    @cached_property
    def cpg_gene_index(self) -> NDArray[np.int64]:
        """``(J,)`` position in ``gene_names`` of each CpG's gene."""
        return pd.Index(self.gene_names).get_indexer(self.cpg_gene).astype(np.int64)

    @cached_property
    def protein_gene_index(self) -> NDArray[np.int64]:
        """``(P,)`` position in ``gene_names`` of each protein's gene."""
        return pd.Index(self.gene_names).get_indexer(self.protein_gene).astype(np.int64)

    @property
    def mean_expr_with_mapped_protein(self) -> NDArray[np.float64]:
        """``(P,)`` mean expression of each protein's gene."""
        return self.mean_expr[self.protein_gene_index]

    @classmethod
    def load(cls, path: str | Path) -> InterSIMParameters:
        """Read parameters from an ``.npz`` archive with one array per field.

        Parameters
        ----------
        path
            The archive. Arrays that follow from others (``cpg_gene_index``, ``protein_gene_index``,
            ``mean_expr_with_mapped_protein``) may be in it and must then agree; all else is left unread.

        Raises
        ------
        KeyError
            If an array is missing.
        UnsafeFileError
            If the file is something else than an archive of plain arrays; nothing is ever unpickled.
        ValueError
            If an array does not fit the others.
        """
        derived = ("cpg_gene_index", "protein_gene_index", "mean_expr_with_mapped_protein")
        wanted = [field.name for field in fields(cls)]
        try:
            with np.load(path, allow_pickle=False) as archive:
                found = {key: archive[key] for key in archive.files if key in (*wanted, *derived)}
        except (ValueError, AttributeError, EOFError, TypeError, zipfile.BadZipFile) as error:
            raise UnsafeFileError(
                f"{path} is not an archive of plain arrays (`.npz`, no objects inside), so it is not opened."
            ) from error
        check_keys(wanted, list(found), f"Array in {path}")
        parameters = cls(**{key: found[key] for key in wanted})
        for key in derived:
            own = getattr(parameters, key)
            if key in found and not (found[key].shape == own.shape and np.allclose(found[key], own)):
                raise ValueError(f"Array `{key}` in {path} disagrees with the genes that CpGs and proteins belong to.")
        return parameters

    def save(self, path: str | Path) -> None:
        """Write all fields to an ``.npz`` archive that :meth:`load` reads.

        Parameters
        ----------
        path
            Where to write.
        """
        np.savez_compressed(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_data(
        cls,
        mdata: MuData,
        *,
        methylation: str = "methylation",
        expression: str = "expression",
        protein: str = "protein",
        cpg_gene: str = "gene",
        protein_gene: str = "gene",
    ) -> InterSIMParameters:
        """Estimate parameters from data of three modalities.

        Means and covariances come from all samples measured in a modality, correlations from those measured in both.
        Variances are the empirical ones; correlations between features are shrunk towards zero :cite:p:`Ledoit2004`,
        so that a covariance is positive definite with fewer samples than features, too. A gene's methylation is the
        mean M-value of its CpGs; a gene without CpGs gets correlation 0.

        Parameters
        ----------
        mdata
            Bulk data of some hundred to a few thousand features per modality (covariances are dense), no values
            missing; left as it is.
        methylation
            Modality of beta values, in [0, 1]; those within 0.001 of 0 or 1 are taken to be 0.001 away.
        expression
            Modality of expression on a real scale, such as the log of normalised counts; its ``var_names`` are genes.
        protein
            Modality of protein abundance on a real scale.
        cpg_gene, protein_gene
            Column of the modality's ``var`` with the gene of each CpG or protein. Those whose gene is missing or not
            measured are left out.

        Raises
        ------
        KeyError
            If a modality or column does not exist.
        ValueError
            If values are missing, constant or, for methylation, outside [0, 1], or if nothing links two modalities.
        """
        arrays = estimate(
            mdata,
            methylation=methylation,
            expression=expression,
            protein=protein,
            cpg_gene=cpg_gene,
            protein_gene=protein_gene,
        )
        return cls(**arrays)
