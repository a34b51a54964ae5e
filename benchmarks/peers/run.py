"""Other tools on the tasks of smalti.benchmark, each in an environment of its own; see README.md beside this file.

python benchmarks/peers/run.py --tools linear totalvi --data pbmc_mosaic --seeds 0 1 2 --out peers.csv
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE.parent))
from _run import run  # noqa: E402

from smalti._mudata import no_pull  # noqa: E402
from smalti.benchmark import load_task  # noqa: E402

TOOLS = sorted(path.stem for path in HERE.glob("*.txt"))
SHOWN = ("total", "bio", "batch", "presence", "foscttm", "foscttm_depth", "ms10", "transfer", "cpu_s", "peak_mb")


def python_of(tool: str) -> Path:
    """Return the interpreter of a tool's environment, made if need be."""
    folder = ROOT / ".venv-peers" / tool
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    if not (folder / ".done").exists():
        venv.create(folder, with_pip=True, clear=True)
        pip = [python, "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "-c", ROOT / "constraints.txt", "-r", HERE / f"{tool}.txt"], check=True, cwd=ROOT)
        if (alone := HERE / f"{tool}.nodeps").exists():  # what pins versions that its code does not need
            subprocess.run([*pip, "--no-deps", "-r", alone], check=True, cwd=ROOT)
        (folder / ".done").touch()
    return python


def options(parser) -> None:
    parser.add_argument("--tools", nargs="+", default=TOOLS, choices=TOOLS)
    parser.add_argument("--here", action="store_true", help="run the tools in this environment")


def rows(args):
    for name in args.data:
        for tool in args.tools:
            python = Path(sys.executable) if args.here else python_of(tool)
            for seed in args.seeds:
                task = load_task(name, seed)
                with tempfile.TemporaryDirectory() as folder:
                    source, target = Path(folder) / "in.h5mu", Path(folder) / "z.npy"
                    if task.batch_key is None:
                        task.mdata.obs = task.mdata.obs.drop(columns="batch")
                    with no_pull():
                        task.mdata.write(source)
                    threads = {key: str(args.threads) for key in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
                    command = [python, HERE / f"{tool}.py", source, target, str(seed)]
                    done = subprocess.run(command, env={**os.environ, **threads}, capture_output=True, text=True)
                    if done.returncode:
                        last = " ".join(done.stderr.strip().splitlines()[-1:])
                        yield {"data": name, "method": tool, "seed": seed, "failed": last[:200]}
                        continue
                    z, used = np.load(target), json.loads(Path(f"{target}.json").read_text())
                task = load_task(name, seed)
                yield {"data": name, "method": tool, "seed": seed, **task.score(z), **used}


if __name__ == "__main__":
    run(__doc__, rows, by=("data", "method"), seeds=(0, 1, 2), data=("pbmc_mosaic",), options=options, shown=SHOWN)
