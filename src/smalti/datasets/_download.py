"""Download large files once: into a cache, resumed after interruptions, checked against the first download."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pooch
import requests
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
from urllib3.exceptions import HTTPError

logger = logging.getLogger(__name__)

CACHE_VARIABLE = "SMALTI_CACHE_DIR"
CHUNK = 1 << 18
NETWORK_ERRORS = (requests.RequestException, HTTPError)


def cache_directory(cache_dir: str | Path | None = None) -> Path:
    """Return the folder for downloads, made if need be.

    Parameters
    ----------
    cache_dir
        The folder; by default the environment variable ``SMALTI_CACHE_DIR``, else the cache folder of the operating
        system.
    """
    path = Path(cache_dir or os.environ.get(CACHE_VARIABLE) or pooch.os_cache("smalti")).expanduser()
    path.mkdir(parents=True, exist_ok=True)
    return path


def record_path(archive: Path) -> Path:
    """Return where :func:`fetch` records address and checksum of ``archive``."""
    return archive.with_name(archive.name + ".json")


def fetch(url: str, *, directory: Path, progressbar: bool = True) -> Path:
    """Return the path of a file that is downloaded if it is not in ``directory`` yet.

    The publisher of the file gives no checksum. The SHA256 of the first download is written to ``<file>.json``, with
    address, size and date; a later download must have the same.

    Parameters
    ----------
    url
        Address; its last part becomes the name of the file.
    directory
        Folder of the cache.
    progressbar
        Show progress in the terminal.

    Raises
    ------
    ConnectionError
        If the server cannot be reached or refuses; what has arrived stays, and the next call goes on from there.
    ValueError
        If the file is not the one that was downloaded first.
    """
    name = url.rsplit("/", 1)[-1]
    path, record = directory / name, record_path(directory / name)
    known = json.loads(record.read_text())["sha256"] if record.exists() else None
    downloader = ResumingDownloader(directory / f"{name}.part", progressbar=progressbar)
    try:
        pooch.retrieve(url, known_hash=known, fname=name, path=directory, downloader=downloader)
    except NETWORK_ERRORS as error:
        raise ConnectionError(
            f"Could not download {url} ({type(error).__name__}: {error}). Check the connection and call again, or "
            f"fetch the file by other means and put it at {path}."
        ) from error
    except ValueError as error:
        if known is None:
            raise
        raise ValueError(
            f"The file at {url} is not the one that was downloaded first (SHA256 {known}). If it was renewed on "
            f"purpose, delete {record} and call again."
        ) from error
    if known is None:
        entry = {
            "url": url,
            "sha256": pooch.file_hash(str(path), alg="sha256"),
            "bytes": path.stat().st_size,
            "downloaded": datetime.now(UTC).isoformat(timespec="seconds"),
            "note": "checksum of the first download; the publisher gives none to compare with",
        }
        record.write_text(json.dumps(entry, indent=1) + "\n")
        logger.info("Downloaded %s, SHA256 %s.", path, entry["sha256"])
    return path


class ResumingDownloader:
    """Download for pooch that keeps what has arrived and asks for the rest, within a call and between calls.

    Parameters
    ----------
    partial
        File that grows during the download; it stays when the download fails.
    progressbar
        Show progress in the terminal.
    attempts
        How often a connection that breaks off is taken up again before the call fails.
    timeout
        Seconds without any data after which a connection counts as broken.
    """

    def __init__(self, partial: Path, *, progressbar: bool, attempts: int = 4, timeout: float = 60) -> None:
        self.partial = partial
        self.version = partial.with_name(partial.name + ".version")
        self.progressbar = progressbar
        self.attempts = attempts
        self.timeout = timeout

    def __call__(self, url: str, output_file: str, pooch: Any) -> None:
        """Download ``url`` to ``output_file``; called by pooch."""
        for attempt in range(1, self.attempts + 1):
            arrived = self._size()
            try:
                self._transfer(url)
                break
            except requests.HTTPError:
                raise
            except NETWORK_ERRORS as error:
                # A server that sent nothing at all is away; one that broke off is worth another try.
                if attempt == self.attempts or self._size() <= arrived:
                    raise
                logger.warning("Download of %s broke off (%s); going on from there.", url, error)
        self.partial.replace(output_file)
        self.version.unlink(missing_ok=True)

    def _size(self) -> int:
        return self.partial.stat().st_size if self.partial.exists() else 0

    def _transfer(self, url: str) -> None:
        # "identity": a gzip file must arrive as it is, not unpacked on the way.
        headers = {"Accept-Encoding": "identity"}
        start = self._size()
        if start and self.version.exists():
            # The server sends the rest only if its file is still the one that the part came from.
            headers |= {"Range": f"bytes={start}-", "If-Range": self.version.read_text()}
        with requests.get(url, headers=headers, stream=True, timeout=self.timeout) as response:
            if response.status_code == requests.codes.requested_range_not_satisfiable:
                self.partial.unlink()  # longer than the file on the server: begin again
                return self._transfer(url)
            response.raise_for_status()
            resumed = response.status_code == requests.codes.partial_content
            start = start if resumed else 0
            self._remember_version(response)
            length = response.headers.get("Content-Length")
            total = None if length is None else start + int(length)
            with self.partial.open("ab" if resumed else "wb") as file, self._progress() as progress:
                task = progress.add_task(url.rsplit("/", 1)[-1], total=total, completed=start)
                for chunk in response.raw.stream(CHUNK, decode_content=False):
                    file.write(chunk)
                    progress.advance(task, len(chunk))
        if total is not None and self._size() != total:
            raise requests.ConnectionError(f"got {self._size()} of {total} bytes")

    def _remember_version(self, response: requests.Response) -> None:
        tag = response.headers.get("ETag", "")
        version = response.headers.get("Last-Modified") if not tag or tag.startswith("W/") else tag
        if version:
            self.version.write_text(version)
        else:
            self.version.unlink(missing_ok=True)

    def _progress(self) -> Progress:
        return Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            disable=not self.progressbar,
        )
