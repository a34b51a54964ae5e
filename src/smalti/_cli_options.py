"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

MODELS = ("clue", "mca", "modis", "unpairedcca", "fusionclustering", "overlapmanifold")
"""What ``--model`` takes; a test compares it with the catalogue, which takes seconds to import."""

In = Annotated[
    list[str],
    typer.Argument(
        metavar="IN...",
        help="Raw counts: one .h5mu, .h5ad, 10x .h5 or .zarr folder; or one AnnData file per modality, such as "
        "rna=rna.h5ad atac=atac.h5ad.",
    ),
]
ModelDir = Annotated[Path, typer.Argument(metavar="MODEL", help="Folder that `smalti fit --save-model` wrote.")]
Out = Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="File to write (.h5mu).")]
BatchKey = Annotated[str | None, typer.Option(help="Column of .obs with the batch of every cell.")]
LabelsKey = Annotated[str | None, typer.Option(help="Column of .obs with labels.")]
Unlabeled = Annotated[str, typer.Option(help="Value of that column that means: no label.")]
Modalities = Annotated[
    str | None,
    typer.Option(
        metavar="NAME[=KIND],...",
        help="Such as rna=nb,adt=nb or rna,adt; kinds: nb, zinb, poisson, bernoulli, gaussian, nb_mixture. By default "
        "all modalities, kinds inferred from the values.",
    ),
]
Layers = Annotated[
    str | None, typer.Option(metavar="NAME=LAYER,...", help="Layers with raw values, such as rna=counts; .X otherwise.")
]
Links = Annotated[
    Path | None,
    typer.Option(metavar="TSV", help="Linked features: a column per modality, named like it, and a row per link."),
]
Latents = Annotated[Path | None, typer.Option("--latents", metavar="TSV", help="Table of the latent, a row per cell.")]
Seed = Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of splits, initial weights and noise.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs at most; chosen by the size of the data by default.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]
