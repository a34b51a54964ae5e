"""The commands that need a model: ``fit``, ``query``, ``translate``, ``match`` and ``report``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import _cli_options as options
from ._console import (
    friendly,
    model_class,
    out,
    parse_layers,
    parse_modalities,
    paths_of,
    read_links,
    read_mosaic,
    save_figure,
    say,
    stored_model,
    timed,
    train,
    write_latents,
    write_mosaic,
)

if TYPE_CHECKING:
    from mudata import MuData


def fit(
    source: options.In,
    target: options.Out,
    model_name: Annotated[
        str,
        typer.Option(
            "--model", "-m", metavar="[" + "|".join(options.MODELS) + "]", help="`smalti models` says which for what."
        ),
    ] = "clue",
    modalities: options.Modalities = None,
    layers: options.Layers = None,
    batch_key: options.BatchKey = None,
    labels_key: options.LabelsKey = None,
    unlabeled: options.Unlabeled = "unknown",
    links: options.Links = None,
    epochs: options.Epochs = None,
    seed: options.Seed = 0,
    save_model: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the trained model.")] = None,
    latents: options.Latents = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Picture of mosaic and latent to draw.")] = None,
    report: Annotated[Path | None, typer.Option(metavar="HTML", help="Page about the integration to write.")] = None,
    stability: Annotated[
        int, typer.Option(min=0, help="Seeds to train again with for the report; 0 or at least 2.")
    ] = 0,
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Fit a model to the mosaic in IN and write it with the latent to OUT.

    Clusters of fusionclustering, charts of overlapmanifold and gates are written, too.
    """
    with friendly(debug):
        from smalti._outputs import check_outputs

        check_outputs(
            target, save_model, plot, latents, page=report, sources=paths_of(source, links), overwrite=overwrite
        )
        _check_stability(stability)
        if stability and report is None:
            raise ValueError("--stability is shown in the report: say where to write it, --report report.html.")
        if links is not None and model_name != "unpairedcca":
            raise ValueError(f"--links is for unpairedcca; {model_name} learns from pairs or labels.")
        further = {} if links is None else {"links": read_links(links)}
        from smalti import pl

        cls = model_class(model_name)
        mdata = read_mosaic(source, batch_key, labels_key)
        cls.setup_mudata(
            mdata,
            parse_modalities(modalities, parse_layers(layers), list(mdata.mod)),
            batch_key=batch_key,
            labels_key=labels_key,
            unlabeled_category=unlabeled,
        )
        fitted = cls(mdata, random_state=seed, **further)
        say(repr(fitted))
        _, seconds = timed(lambda: train(fitted, epochs))
        key = f"X_{model_name}"
        mdata.obsm[key] = fitted.get_latent_representation()
        said = [f"Trained in {seconds:.0f} s; latent of {mdata.n_obs:,} cells in .obsm['{key}'] of {target}."]
        said += _write_results(fitted, mdata)
        if save_model is not None:
            fitted.save(save_model, overwrite=overwrite)
        if latents is not None:
            write_latents(mdata, key, latents)
        if plot is not None:
            with out.status("Drawing ..."):
                colors = ["presence", *filter(None, (batch_key, labels_key))]
                save_figure(pl.overview(mdata, key, color=colors, batch_key=batch_key, random_state=seed), plot)
        if report is not None:
            keys: dict[str, Any] = {"batch_key": batch_key, "labels_key": labels_key}
            _report(fitted, mdata, report, keys, stability, further, epochs, seed)
            said.append(f"Report: {report}.")
        write_mosaic(mdata, target)
        for sentence in said:
            say(sentence)


def query(
    model: options.ModelDir,
    source: options.In,
    target: options.Out,
    modality: Annotated[str | None, typer.Option(help="What an AnnData of one modality is, such as rna.")] = None,
    update: Annotated[
        str, typer.Option(metavar="[none|batch|all]", help="What is adapted to batches that the reference lacks.")
    ] = "none",
    reference: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Reference with labels, as it was trained on.")
    ] = None,
    labels_key: Annotated[str | None, typer.Option(help="Column of the reference with labels to carry over.")] = None,
    batch_key: Annotated[str | None, typer.Option(help="Column of the reference with donors, to calibrate by.")] = None,
    latents: options.Latents = None,
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Map the cells in IN into the latent of a stored MODEL; with --reference and --labels-key label them."""
    with friendly(debug):
        from smalti._outputs import check_outputs

        check_outputs(target, None, None, latents, sources=paths_of(source, model, reference), overwrite=overwrite)
        if (reference is None) != (labels_key is None):
            raise ValueError("Labels need both --reference, the file, and --labels-key, its column.")
        if batch_key is not None and reference is None:
            raise ValueError("--batch-key is a column of the reference: name its file, --reference.")
        from smalti import tl

        cls, name = stored_model(model)
        mapped = cls.load_query(
            read_mosaic(source, None, None, modality=modality), model, modality=modality, update=update
        )  # type: ignore[arg-type]
        mdata, key = mapped.adata, f"X_{name}"
        mdata.obsm[key] = mapped.get_latent_representation()
        said = [f"Latent of {mdata.n_obs:,} cells in .obsm['{key}'] of {target}."]
        if reference is not None and labels_key is not None:
            ref = read_mosaic([str(reference)], batch_key, labels_key)
            found = tl.transfer_labels(ref, mdata, labels_key, model=mapped, batch_key=batch_key)
            for column, values in found.to_frame().items():
                mdata.obs[f"{labels_key}_{column}"] = values.reindex(mdata.obs_names).to_numpy()
            said.append(repr(found))
        if latents is not None:
            write_latents(mdata, key, latents)
        write_mosaic(mdata, target)
        for sentence in said:
            say(sentence)


def translate(
    model: options.ModelDir,
    source: options.In,
    target: options.Out,
    to: Annotated[str, typer.Option("--to", help="Modality to predict.")],
    by: Annotated[
        str | None, typer.Option("--from", help="Modality to predict from; all that a cell has by default.")
    ] = None,
    scale: Annotated[str, typer.Option(metavar="[raw|log1p|normalized]", help="Scale of the values.")] = "raw",
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Predict a modality of the cells in IN by a stored MODEL; OUT is an AnnData (.h5ad) or a table (.tsv)."""
    with friendly(debug):
        from smalti._files import replacing
        from smalti._outputs import check_outputs

        if target.suffix.lower() not in (".h5ad", ".tsv"):
            raise ValueError(f"{target} is written as an AnnData or a table: name it .h5ad or .tsv.")
        check_outputs(None, None, None, target, sources=paths_of(source, model), overwrite=overwrite)
        cls, name = stored_model(model)
        if not hasattr(cls, "translate"):
            raise ValueError(f"{name} has no decoder, so that it predicts no values: fit clue, mca or modis.")
        mapped = cls.load_query(read_mosaic(source, None, None), model)
        found = mapped.translate(by, to, scale=scale)
        adata = found.to_adata()
        with replacing(target) as beside:
            if target.suffix.lower() == ".tsv":
                adata.to_df().to_csv(beside, sep="\t", index_label="cell")
            else:
                adata.write_h5ad(beside)
        say(f"{to} of {adata.n_obs:,} cells, {adata.n_vars:,} features, in {target}.")


def match(
    model: options.ModelDir,
    source: options.In,
    target: Annotated[Path, typer.Option("--out", "-o", metavar="TSV", help="Table to write.")],
    first: Annotated[str, typer.Option("--from", help="Modality of the cells to match.")],
    second: Annotated[str, typer.Option("--to", help="Modality of their partners.")],
    within: Annotated[
        str | None, typer.Option(help="Column of .obs, such as the batch, to seek partners within.")
    ] = None,
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Find for each cell of one modality its partner in another, with a confidence, by a stored MODEL."""
    with friendly(debug):
        from smalti import tl
        from smalti._files import replacing
        from smalti._outputs import check_outputs

        check_outputs(None, None, None, target, sources=paths_of(source, model), overwrite=overwrite)
        cls, _ = stored_model(model)
        found = tl.match(cls.load(model, read_mosaic(source, within, None)), first, second, within=within)
        with replacing(target) as beside:
            found.to_frame().to_csv(beside, sep="\t", index_label="cell")
        say(repr(found))


def report(
    model: options.ModelDir,
    source: options.In,
    target: Annotated[Path, typer.Option("--out", "-o", metavar="HTML", help="Page to write.")],
    batch_key: options.BatchKey = None,
    labels_key: options.LabelsKey = None,
    stability: Annotated[int, typer.Option(min=0, help="Seeds to train again with; 0 or at least 2.")] = 0,
    overwrite: options.Overwrite = False,
    debug: options.Debug = False,
) -> None:
    """Write one self-contained page about a stored MODEL and the mosaic in IN that it was trained on."""
    with friendly(debug):
        from smalti._outputs import check_outputs

        check_outputs(page=target, sources=paths_of(source, model), overwrite=overwrite)
        _check_stability(stability)
        cls, _ = stored_model(model)
        mdata = read_mosaic(source, batch_key, labels_key)
        fitted = cls.load(model, mdata)
        keys: dict[str, Any] = {"batch_key": batch_key, "labels_key": labels_key}
        _report(fitted, mdata, target, keys, stability, {}, None, fitted.random_state)
        say(f"Report: {target}.")


def _check_stability(n_seeds: int) -> None:
    if n_seeds == 1:
        raise ValueError("--stability needs at least 2 seeds: one training says nothing of the spread.")


def _report(
    fitted: Any,
    mdata: MuData,
    target: Path,
    keys: dict[str, Any],
    n_seeds: int,
    further: dict[str, Any],
    epochs: int | None,
    seed: int,
) -> None:
    from smalti import report as reports
    from smalti import tl

    found = None
    if n_seeds:
        with out.status(f"Training with {n_seeds} seeds ..."):
            found = tl.stability(
                type(fitted), mdata, n_seeds, model_kwargs=further, train_kwargs={"max_epochs": epochs}, **keys
            )
    with out.status("Writing the report ..."):
        command = shlex.join(["smalti", *sys.argv[1:]]) if Path(sys.argv[0]).stem in ("smalti", "__main__") else ""
        reports.write(fitted, mdata, target, stability=found, command=command, random_state=seed, **keys)


def _write_results(fitted: Any, mdata: MuData) -> list[str]:
    """Write what a model finds besides its latent, and say so."""
    said = []
    if hasattr(fitted, "write_clusters"):
        fitted.write_clusters(mdata)
        said.append("Clusters, their probability and the agreement of modalities in .obs (cluster, cluster_...).")
    if hasattr(fitted, "write_charts"):
        fitted.write_charts(mdata)
        said.append("Charts in .obsm['X_loca'], their trust in .obs (loca_...).")
    if getattr(fitted, "verdict_", None) is not None:
        said.append(str(fitted.verdict))
    if fitted.gate_names():
        fitted.write_gates(mdata)
        said.append(f"Selected features in .var of {', '.join(fitted.gate_names())} (gate, gate_prob, selected).")
    return said
