"""The command line: ``smalti demo``, ``smalti fit``, ``smalti describe``, ``smalti models``.

Nothing heavy is imported before a command runs, so that ``smalti --help`` is quick.
"""

from __future__ import annotations

import json
import logging
import platform
import time
import warnings
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from mudata import MuData

    from smalti.model.base import MosaicModel

HIDDEN = 0.2
"""Fraction of the pairs that the demo hides in training and scores afterwards; that of the scoring protocol."""
app = typer.Typer(
    name="smalti",
    help="Integrate multimodal single-cell data as they really come: as a mosaic.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console()
err = Console(stderr=True)

In = Annotated[Path, typer.Argument(metavar="IN", help="Raw counts: .h5mu, .h5ad, 10x .h5, or a .zarr folder.")]
BatchKey = Annotated[str | None, typer.Option(help="Column of .obs with the batch of every cell.")]
LabelsKey = Annotated[str | None, typer.Option(help="Column of .obs with labels.")]
Epochs = Annotated[int | None, typer.Option(min=1, help="Epochs at most; chosen by the size of the data by default.")]
Seed = Annotated[int, typer.Option(help="Seed of splits, initial weights and noise.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")]


def _show_version(wanted: bool) -> None:
    if wanted:
        _say(f"smalti {version('smalti')}")
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
    epochs: Epochs = None,
    seed: Seed = 0,
    debug: Debug = False,
) -> None:
    """Integrate a real mosaic of 1,600 blood cells (RNA and proteins) and score it on pairs held out."""
    with _friendly(debug):
        from smalti import datasets, model, pl, simulate, tl
        from smalti._files import check_writable, write_text

        for name in ("pbmc_mosaic_integrated.h5mu", "umap.png", "metrics.json"):
            check_writable(folder / name)
        start = time.perf_counter()
        mdata = datasets.pbmc_mosaic()
        columns = {"batch_key": "batch", "labels_key": "celltype"}
        _say(repr(tl.describe_mosaic(mdata, **columns)))
        split = simulate.hide_pairs(mdata, HIDDEN, random_state=seed)
        _say(f"\nHiding {HIDDEN:.0%} of the pairs, to score on them later.")

        linear, seconds_linear = _timed(lambda: tl.linear_joint(split, batch_key="batch", random_state=seed))
        cca, seconds_cca = _timed(lambda: tl.linear_cca(split, batch_key="batch", random_state=seed))
        model.CLUE.setup_mudata(split, batch_key="batch")
        clue = model.CLUE(split, random_state=seed)
        _, seconds_clue = _timed(lambda: _train(clue, epochs))
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
            _save(
                pl.overview(mdata, "X_clue", color=colors, batch_key="batch", coordinates="X_umap"),
                folder / "umap.png",
            )
        _write(mdata, folder / "pbmc_mosaic_integrated.h5mu")
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
        _say(f"Done in {time.perf_counter() - start:.0f} s. In {folder}/:")
        for name in ("pbmc_mosaic_integrated.h5mu", "umap.png", "metrics.json"):
            _say(f"  {name}")


@app.command()
def fit(
    source: In,
    target: Annotated[Path, typer.Option("--out", "-o", metavar="OUT", help="File to write (.h5mu).")],
    model_name: Annotated[str, typer.Option("--model", "-m", help="Model; `smalti models` lists them.")] = "clue",
    modalities: Annotated[
        str | None,
        typer.Option(help="Such as rna=nb,adt=nb or rna,adt. By default all, kinds inferred from the values."),
    ] = None,
    batch_key: BatchKey = None,
    labels_key: LabelsKey = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    save_model: Annotated[Path | None, typer.Option(metavar="DIR", help="Folder for the trained model.")] = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Picture of mosaic and latent to draw.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
    debug: Debug = False,
) -> None:
    """Fit a model to the mosaic in IN and write it with the latent to OUT."""
    with _friendly(debug):
        from smalti._outputs import check_outputs

        check_outputs(target, save_model, plot, overwrite=overwrite)
        from smalti import pl

        cls = _model_class(model_name)
        mdata = _read(source, batch_key, labels_key)
        cls.setup_mudata(mdata, _parse_modalities(modalities), batch_key=batch_key, labels_key=labels_key)
        fitted = cls(mdata, random_state=seed)
        _say(repr(fitted))
        _, seconds = _timed(lambda: _train(fitted, epochs))
        key = f"X_{model_name}"
        mdata.obsm[key] = fitted.get_latent_representation()
        if save_model is not None:
            fitted.save(save_model, overwrite=overwrite)
        if plot is not None:
            with out.status("Drawing ..."):
                colors = ["presence", *filter(None, (batch_key, labels_key))]
                _save(pl.overview(mdata, key, color=colors, batch_key=batch_key, random_state=seed), plot)
        _write(mdata, target)
        out.print(
            f"Trained in {seconds:.0f} s; latent of {mdata.n_obs:,} cells in .obsm['{key}'] of {target}.",
            highlight=False,
        )


@app.command()
def describe(
    source: In,
    batch_key: BatchKey = None,
    labels_key: LabelsKey = None,
    plot: Annotated[Path | None, typer.Option(metavar="PNG", help="Picture of the mosaic to draw.")] = None,
    debug: Debug = False,
) -> None:
    """Tell who was measured in what, what is wrong, and which model fits."""
    with _friendly(debug):
        from smalti._outputs import check_outputs

        check_outputs(None, None, plot, overwrite=True)
        from smalti import pl, tl

        mdata = _read(source, batch_key, labels_key)
        found = tl.describe_mosaic(mdata, batch_key=batch_key, labels_key=labels_key)
        _say(repr(found))
        if plot is not None:
            _save(pl.figure_of(pl.mosaic(mdata, batch_key=batch_key)), plot)


@app.command()
def models() -> None:
    """List the models and what each is for."""
    from smalti import tl

    for entry in tl.MODELS:
        if entry.available:
            _say(f"{entry.command:12} {entry.what}")


# ------------------------------------------------------------------ parts


@contextmanager
def _friendly(debug: bool) -> Iterator[None]:
    """Turn errors into one line, unless the traceback is wanted, and keep libraries quiet."""
    try:
        with warnings.catch_warnings(), out.status("Loading ...") as status:
            warnings.simplefilter("default" if debug else "ignore")
            _quiet_libraries()
            status.stop()
            yield
    except Exception as error:
        if debug or isinstance(error, typer.Exit):
            raise
        text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        text = " ".join(text.split()) or type(error).__name__
        err.print(f"[bold red]Error:[/] {escape(text)}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error


def _say(text: str) -> None:
    """Print as it is: no markup, no colours, no breaking of lines."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _quiet_libraries() -> None:
    import matplotlib as mpl
    import scvi

    import smalti  # noqa: F401

    mpl.use("agg")
    scvi.settings.verbosity = logging.WARNING
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def _read(path: Path, batch_key: str | None, labels_key: str | None) -> MuData:
    """Read a mosaic; columns that only the modalities have are collected."""
    from smalti.data import coalesce_obs, read

    mdata = read(path)
    for key in filter(None, (batch_key, labels_key)):
        if key not in mdata.obs and any(key in adata.obs for adata in mdata.mod.values()):
            mdata.obs[key] = coalesce_obs(mdata, key)
    return mdata


def _write(mdata: MuData, path: Path) -> None:
    from smalti._storable import write_mudata

    write_mudata(mdata, path)


def _model_class(name: str) -> Any:
    from smalti import model, tl
    from smalti._validate import check_choice

    found = {entry.command: entry.name for entry in tl.MODELS if entry.available}
    return getattr(model, found[check_choice(name, list(found), "--model")])


def _parse_modalities(text: str | None) -> dict[str, str | None] | None:
    """Read ``rna=nb,adt`` as ``{"rna": "nb", "adt": None}``."""
    if text is None:
        return None
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"--modalities names {', '.join(map(repr, twice))} more than once; name each modality once.")
    return {name.strip(): kind.strip() or None for name, _, kind in parts}


def _timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def _train(fitted: MosaicModel, epochs: int | None) -> None:
    from lightning.pytorch.callbacks import Callback
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Training"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("Training", total=None)

        class Advance(Callback):
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                progress.update(task, total=trainer.max_epochs, completed=trainer.current_epoch + 1)

        fitted.train(epochs, progress=False, trainer_kwargs={"callbacks": [Advance()]})
    _say(f"{type(fitted).__name__} trained for {len(fitted.history['train_loss'])} epochs.")


def _save(figure: Figure, path: Path) -> None:
    from smalti._files import replacing

    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)
