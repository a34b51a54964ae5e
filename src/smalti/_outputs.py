"""What the command line was asked to write, looked at before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smalti._files import check_writable

if TYPE_CHECKING:
    from pathlib import Path


def check_outputs(
    target: Path | None, save_model: Path | None, plot: Path | None, *others: Path | None, overwrite: bool
) -> None:
    """Find out before anything is computed whether all that is asked for can be written."""
    wanted = [path for path in (target, save_model, plot, *others) if path is not None]
    for path in wanted:
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already. Name another one, or pass --overwrite.")
        check_writable(path, folder=path is save_model)
    if len({path.resolve() for path in wanted}) < len(wanted):
        raise ValueError("Two outputs have the same name. Give each a name of its own.")
    if target is not None and target.suffix.lower() in (".h5ad", ".zarr", ".loom", ".csv"):
        raise ValueError(f"{target} is written as a MuData file: name it {target.with_suffix('.h5mu')}.")
    if plot is not None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
        if plot.suffix[1:].lower() not in kinds:
            raise ValueError(f"{plot} has no ending of a picture; expected one of {', '.join(kinds)}.")
