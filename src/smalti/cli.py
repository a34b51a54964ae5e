"""The command line: ``smalti demo``, ``describe``, ``models``, and those of :mod:`smalti._commands`.

Nothing heavy is imported before a command runs, so that ``smalti --help`` is quick.
"""

from __future__ import annotations

import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from . import _cli_options as options
from . import _commands
from ._console import friendly, out, paths_of, read_mosaic, save_figure, say, timed, train, write_mosaic

HIDDEN = 0.2
"""Fraction of the pairs that the demo hides in training and scores afterwards; that of the scoring protocol."""
app = typer.Typer(
    name="smalti",
    help="Integrate multimodal single-cell data as they really come: as a mosaic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        say(f"smalti {version('smalti')}")
        raise typer.Exit


@app.callback()
def main(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Integrate multimodal single-cell data as they really come: as a mosaic."""


@app.command()
def demo(
    folder: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("demo"),
    epochs: options.Epochs = None,
    seed: options.Seed = 0,
    debug: options.Debug = False,
) -> None:
    """Integrate a real mosaic of 1,600 blood cells (RNA and proteins) and score it on pairs held out."""
    with friendly(debug):
        from smalti import datasets, model, pl, simulate, tl
        from smalti._files import check_writable, write_text

        for name in ("pbmc_mosaic_integrated.h5mu", "umap.png", "metrics.json"):
            check_writable(folder / name)
        start = time.perf_counter()
        mdata = datasets.pbmc_mosaic()
        columns = {"batch_key": "batch", "labels_key": "celltype"}
        say(repr(tl.describe_mosaic(mdata, **columns)))
        split = simulate.hide_pairs(mdata, HIDDEN, random_state=seed)
        say(f"\nHiding {HIDDEN:.0%} of the pairs, to score on them later.")

        linear, seconds_linear = timed(lambda: tl.linear_joint(split, batch_key="batch", random_state=seed))
        cca, seconds_cca = timed(lambda: tl.linear_cca(split, batch_key="batch", random_state=seed))
        model.CLUE.setup_mudata(split, batch_key="batch")
        clue = model.CLUE(split, random_state=seed)
        _, seconds_clue = timed(lambda: train(clue, epochs))
        split.obsm["X_clue"] = clue.get_latent_representation()  # for analysis
        split.obsm["X_clue_aligned"] = clue.get_latent_representation(block="aligned")  # for matching
        found = tl.evaluate(
            split,
            {"CLUE": "X_clue", "linear joint": "X_joint", "linear CCA": "X_cca"},
            aligned={"CLUE": "X_clue_aligned", "linear joint": "X_cca", "linear CCA": "X_cca"},
            batch_key="batch",
            labels_key="celltype",
        )

        # the pairs are whole again in what is written; their hiding was for the score alone
        mdata.obs["hidden_in_training"] = mdata.obs_names.isin(split.obs["cell"][split.obs["hidden"]])
        mdata.obsm["X_clue"] = clue.get_latent_representation(mdata)
        mdata.obsm["X_clue_aligned"] = clue.get_latent_representation(mdata, block="aligned")
        mdata.obsm["X_joint"], mdata.obsm["X_cca"] = linear.transform(mdata), cca.transform(mdata)
        with out.status("Drawing ..."):
            mdata.obsm["X_umap"] = pl.umap_coordinates(mdata.obsm["X_clue"], random_state=seed)
            colors = ["presence", "batch", "celltype"]
            save_figure(
                pl.overview(mdata, "X_clue", color=colors, batch_key="batch", coordinates="X_umap"),
                folder / "umap.png",
            )
        write_mosaic(mdata, folder / "pbmc_mosaic_integrated.h5mu")
        record = {
            "data": "pbmc_mosaic",
            "hidden_pairs": HIDDEN,
            "seed": seed,
            **found.to_dict(),
            "epochs": len(clue.history["train_loss"]),
            "seconds": {"CLUE": round(seconds_clue, 1), "linear joint": round(seconds_linear, 1)}
            | {"linear CCA": round(seconds_cca, 1)},
            "versions": {"python": platform.python_version()}
            | {name: version(name) for name in ("smalti", "torch", "scvi-tools", "scanpy")},
        }
        write_text(folder / "metrics.json", json.dumps(record, indent=1) + "\n")
        out.print(found)
        say(f"Done in {time.perf_counter() - start:.0f} s. In {folder}/:")
        for name in ("pbmc_mosaic_integrated.h5mu", "umap.png", "metrics.json"):
            say(f"  {name}")


@app.command()
def describe(
    source: options.In,
    batch_key: options.BatchKey = None,
    labels_key: options.LabelsKey = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Picture of the mosaic to draw.")] = None,
    debug: options.Debug = False,
) -> None:
    """Tell who was measured in what, what is wrong, and which model fits."""
    with friendly(debug):
        from smalti._outputs import check_outputs

        check_outputs(None, None, plot, sources=paths_of(source), overwrite=True)
        from smalti import pl, tl

        mdata = read_mosaic(source, batch_key, labels_key)
        found = tl.describe_mosaic(mdata, batch_key=batch_key, labels_key=labels_key)
        say(repr(found))
        if plot is not None:
            save_figure(pl.figure_of(pl.mosaic(mdata, batch_key=batch_key)), plot)


@app.command()
def models() -> None:
    """List the models and what each is for."""
    from smalti import tl

    for entry in tl.MODELS:
        if entry.available:
            say(f"{entry.command:12} {entry.what}")


for command in (_commands.fit, _commands.query, _commands.translate, _commands.match, _commands.report):
    app.command()(command)
