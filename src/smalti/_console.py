"""What the commands share: one place to print, errors in one line, a progress bar."""

from __future__ import annotations

import logging
import time
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.markup import escape

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def read_mosaic(path: Path, batch_key: str | None, labels_key: str | None) -> MuData:
    """Read a mosaic; columns that only the modalities have are collected."""
    from smalti.data import coalesce_obs, read

    mdata = read(path)
    for key in filter(None, (batch_key, labels_key)):
        if key not in mdata.obs and any(key in adata.obs for adata in mdata.mod.values()):
            mdata.obs[key] = coalesce_obs(mdata, key)
    return mdata


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
