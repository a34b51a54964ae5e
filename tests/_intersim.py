"""Small parameters of InterSIM, with links that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from smalti.simulate import InterSIMParameters

NAMES = ("methylation", "expression", "protein")
GENE_OF_CPG = np.array([0, 0, 0, 1, 1, 2, 3, 4, 5, 5])
GENE_OF_PROTEIN = np.array([5, 4, 3, 2, 1, 0, 0])


def make_parameters(seed=0, *, scale=1.0, **changes):
    """Ten CpGs, six genes, seven proteins."""
    rng = np.random.default_rng(seed)

    def covariance(n):
        a = rng.standard_normal((n, n))
        return scale * (a @ a.T / n + 0.2 * np.eye(n))

    genes = np.array([f"g{i}" for i in range(6)])
    parameters = InterSIMParameters(
        cpg_names=np.array([f"cg{i}" for i in range(10)]),
        gene_names=genes,
        protein_names=np.array([f"p{i}" for i in range(7)]),
        cpg_gene=genes[GENE_OF_CPG],
        protein_gene=genes[GENE_OF_PROTEIN],
        mean_M=rng.normal(size=10),
        cov_M=covariance(10),
        mean_expr=rng.normal(size=6),
        cov_expr=covariance(6),
        mean_protein=rng.normal(size=7),
        cov_protein=covariance(7),
        methyl_gene_level_mean=rng.normal(size=6),
        rho_methyl_expr=rng.uniform(-0.9, 0.9, 6),
        rho_expr_protein=rng.uniform(-0.9, 0.9, 7),
    )
    return replace(parameters, **changes)
