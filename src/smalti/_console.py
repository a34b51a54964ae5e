"""What the commands share: one place to print, errors in one line, a progress bar."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matplotlib.figure import Figure
    from mudata import MuData

    from smalti.model.base import MosaicModel

out = Console()
err = Console(stderr=True)


@contextmanager
def friendly(debug: bool) -> Iterator[None]:
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


def say(text: str) -> None:
    """Print as it is: no markup, no colours, no breaking of lines."""
    out.print(text, markup=False, highlight=False, soft_wrap=True)


def _quiet_libraries() -> None:
    import matplotlib as mpl
    import scvi

    import smalti  # noqa: F401

    mpl.use("agg")
    scvi.settings.verbosity = logging.WARNING
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)


def read_mosaic(
    sources: list[str], batch_key: str | None, labels_key: str | None, *, modality: str | None = None
) -> MuData:
    """Read a mosaic from one file, or from one per modality (``name=path``); columns of modalities are collected."""
    from smalti._errors import OneModalityError
    from smalti.data import coalesce_obs, from_anndata, read

    named = [_named(source) for source in sources]
    if modality is not None and len(named) == 1:
        named = [(modality, named[0][1])]
    if len(named) == 1 and not named[0][0]:
        try:
            mdata = read(named[0][1])
        except OneModalityError as error:
            path = named[0][1]
            raise ValueError(
                f"{path} holds one modality only. Say which and name the files of the others, such as rna={path} "
                "adt=other.h5ad; a query of a stored model may be one modality, --modality rna."
            ) from error
    else:
        if odd := [str(path) for name, path in named if not name]:
            raise ValueError(f"Several files need names, such as rna={odd[0]}: found {', '.join(map(repr, odd))}.")
        if len({name for name, _ in named}) < len(named):
            raise ValueError("Two files have the name of one modality; name each modality once.")
        mdata = from_anndata({name: _read_anndata(path) for name, path in named})
    for key in filter(None, (batch_key, labels_key)):
        if key not in mdata.obs and any(key in adata.obs for adata in mdata.mod.values()):
            mdata.obs[key] = coalesce_obs(mdata, key)
    return mdata


def paths_of(sources: list[str], *others: Path | None) -> list[Path]:
    """Return all files and folders that a command reads."""
    return [_named(source)[1] for source in sources] + [path for path in others if path is not None]


def _named(source: str) -> tuple[str, Path]:
    """Read ``rna=rna.h5ad``; a path that has an equals sign in it is a path."""
    name, equals, path = source.partition("=")
    return (name, Path(path)) if equals and "/" not in name and not Path(source).exists() else ("", Path(source))


def _read_anndata(path: Path) -> Any:
    """Read one modality."""
    import anndata
    import scanpy as sc

    if not path.exists():
        raise FileNotFoundError(f"There is no file {path}.")
    if path.suffix.lower() == ".h5mu":
        raise ValueError(f"{path} holds several modalities: give it alone, without a name in front.")
    try:
        if path.is_dir():
            return anndata.io.read_zarr(path)
        return sc.read_10x_h5(path, gex_only=False) if path.suffix.lower() == ".h5" else anndata.io.read_h5ad(path)
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path} cannot be read as an AnnData (.h5ad, .zarr or .h5 of 10x Genomics): {reason}"
        ) from error


def parse_modalities(text: str | None, layers: dict[str, str], names: list[str]) -> dict[str, Any] | None:
    """Read ``rna=nb,adt`` as ``{"rna": "nb", "adt": None}``; one with a layer becomes a ``Modality``."""
    from smalti._validate import check_keys
    from smalti.data import Modality

    kinds: dict[str, Any] | None = None
    if text is not None:
        kinds = {name: kind or None for name, kind in _pairs(text, "--modalities").items()}
    check_keys(layers, names if kinds is None else list(kinds), "Modality of --layers")
    if not layers:
        return kinds
    chosen: dict[str, Any] = dict.fromkeys(names) if kinds is None else kinds
    return {m: Modality(likelihood=kind, layer=layers[m]) if m in layers else kind for m, kind in chosen.items()}


def parse_layers(text: str | None) -> dict[str, str]:
    """Read ``rna=counts,adt=raw``."""
    found = _pairs(text or "", "--layers")
    if bare := [name for name, layer in found.items() if not layer]:
        raise ValueError(f"--layers needs a layer for each modality, such as {bare[0]}=counts.")
    return found


def _pairs(text: str, option: str) -> dict[str, str]:
    parts = [part.strip().partition("=") for part in text.split(",") if part.strip()]
    names = [name.strip() for name, _, _ in parts]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{option} names {', '.join(map(repr, twice))} more than once; name each modality once.")
    return {name.strip(): value.strip() for name, _, value in parts}


def read_links(path: Path) -> Any:
    """Read a table of linked features, separated by tabs or commas."""
    import pandas as pd

    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    try:
        return pd.read_csv(path, sep="\t" if path.suffix.lower() in (".tsv", ".txt") else ",", dtype=str)
    except ValueError as error:  # pandas' own and those of text that is none
        raise ValueError(f"{path} cannot be read as a table of links: {error}") from error


def write_latents(mdata: MuData, key: str, path: Path) -> None:
    """Write a latent as a table separated by tabs, a row per cell."""
    import pandas as pd

    from smalti._files import replacing

    z = mdata.obsm[key]
    table = pd.DataFrame(z, index=mdata.obs_names, columns=[f"{key}_{i + 1}" for i in range(z.shape[1])])
    with replacing(path) as beside:
        table.to_csv(beside, sep="\t", index_label="cell", float_format="%.6g")


def stored_model(folder: Path) -> tuple[Any, str]:
    """Return the class of a stored model, and its name in keys."""
    from smalti import model
    from smalti.model.base import read_model

    name = str(read_model(folder)[1]["model"])
    return getattr(model, name), name.lower()


def write_mosaic(mdata: MuData, path: Path) -> None:
    from smalti._storable import write_mudata

    write_mudata(mdata, path)


def model_class(name: str) -> Any:
    from smalti import model, tl
    from smalti._validate import check_choice

    found = {entry.command: entry.name for entry in tl.MODELS if entry.available}
    return getattr(model, found[check_choice(name, list(found), "--model")])


def timed(call: Any) -> tuple[Any, float]:
    start = time.perf_counter()
    return call(), time.perf_counter() - start


def train(fitted: MosaicModel, epochs: int | None) -> None:
    from lightning.pytorch.callbacks import Callback
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("Training"), BarColumn(), MofNCompleteColumn(), TextColumn("epochs"), TimeRemainingColumn())
    with Progress(*columns, console=out, transient=True) as progress:
        task = progress.add_task("Training", total=None)

        class Advance(Callback):
            def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
                progress.update(task, total=trainer.max_epochs, completed=trainer.current_epoch + 1)

        fitted.train(epochs, progress=False, trainer_kwargs={"callbacks": [Advance()]})
    say(f"{type(fitted).__name__} trained for {len(fitted.history['train_loss'])} epochs.")


def save_figure(figure: Figure, path: Path) -> None:
    from smalti._files import replacing

    with replacing(path) as beside:
        figure.savefig(beside, dpi=110)
