"""Independent jobs: one after another, in processes of this machine, or on a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from ._validate import check_choice, check_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

Backend = Literal["loky", "threading", "ray"]
"""Where jobs run: processes of this machine, threads, or a Ray cluster."""


def check_jobs(n_jobs: int) -> None:
    """Raise ``ValueError`` unless a number of jobs is -1 or a whole number >= 1."""
    if n_jobs != -1:
        check_count(n_jobs, "n_jobs")


def run_jobs(
    call: Callable[..., Any],
    jobs: Sequence[tuple[Any, ...]],
    *,
    n_jobs: int = 1,
    backend: Backend = "loky",
    at_once: int = 16,
) -> Iterator[list[Any]]:
    """Yield the results of ``call(*job)``, in the order of the jobs, ``at_once`` together, so that they can be stored.

    Parameters
    ----------
    call
        Function.
    jobs
        Its arguments.
    n_jobs
        Jobs at a time, as in joblib; -1: as many as there are cores.
    backend
        See :data:`Backend`.
    at_once
        Results that come together.

    Raises
    ------
    ValueError
        If ``n_jobs`` is neither -1 nor a whole number >= 1.
    ImportError
        If the backend is Ray and it is not installed.
    """
    from joblib import Parallel, delayed, parallel_config

    check_choice(backend, get_args(Backend), "backend")
    check_jobs(n_jobs)
    if backend == "ray":
        try:
            from ray.util.joblib import register_ray
        except ImportError as error:
            raise ImportError(
                'Backend "ray" needs Ray: `pip install ray` (extra "tune"), or use the backend "loky".'
            ) from error
        register_ray()
    with parallel_config(backend=backend, n_jobs=n_jobs), Parallel() as parallel:
        for start in range(0, len(jobs), at_once):
            yield list(parallel(delayed(call)(*job) for job in jobs[start : start + at_once]))
