"""What the command line was asked to write, looked at before anything is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from smalti._files import check_writable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PAGES = (".html", ".htm")


def check_outputs(
    target: Path | None = None,
    save_model: Path | None = None,
    plot: Path | None = None,
    *others: Path | None,
    page: Path | None = None,
    sources: Iterable[Path] = (),
    overwrite: bool,
) -> None:
    """Find out before anything is computed whether all that is asked for can be written.

    Parameters
    ----------
    target
        The mosaic. It may take the place of the file that was read.
    save_model
        Folder of the model.
    plot
        The picture.
    *others
        Tables.
    page
        The report; a file for MultiQC is written beside it.
    sources
        Files and folders that are read, which nothing but ``target`` may replace.
    overwrite
        Whether what exists may be replaced.
    """
    if page is not None:
        if page.suffix.lower() not in PAGES:
            raise ValueError(f"{page} is a web page: name it {page.with_suffix('.html').name}.")
        others = (*others, page, page.with_name(f"{page.stem}_mqc.json"))
    wanted = [path for path in (target, save_model, plot, *others) if path is not None]
    read = [path.resolve() for path in sources]
    for path in wanted:
        inside = [each for each in read if each in path.resolve().parents or each == path.resolve()]
        if inside and not (path is target and path.is_file() and inside[0] == path.resolve()):
            raise ValueError(f"{path} is, or lies in, what is read. Name another place, so that nothing is lost.")
    for path in wanted:
        if path.exists() and not overwrite:
            raise FileExistsError(f"{path} exists already. Name another one, or pass --overwrite.")
        check_writable(path, folder=path is save_model)
    if len({path.resolve() for path in wanted}) < len(wanted):
        raise ValueError("Two outputs have the same name. Give each a name of its own.")
    if target is not None and target.suffix.lower() != ".h5mu":
        raise ValueError(f"{target} is written as a MuData file: name it {target.with_suffix('.h5mu')}.")
    if plot is not None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        kinds = sorted(FigureCanvasAgg.get_supported_filetypes())
        if plot.suffix[1:].lower() not in kinds:
            raise ValueError(f"{plot} has no ending of a picture; expected one of {', '.join(kinds)}.")
