"""Faults at any moment: the previous state survives, and the message says what is left."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import mudata
import numpy as np
import pytest
from _factories import make_mosaic
from lightning.pytorch.callbacks import LambdaCallback

from smalti import pl
from smalti._errors import UnsafeFileError
from smalti._files import replacing
from smalti._mudata import no_pull
from smalti.data import read
from smalti.model import UnpairedCCA

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

QUICK = {"encoder": "linear", "options": {"n_latent": 4, "n_permutations": 0, "accept": "always"}}


@contextmanager
def full_disk(n_bytes: int) -> Iterator[None]:
    """Let no file of this process grow beyond some bytes, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def fitted(n_obs: int = 60, seed: int = 0) -> UnpairedCCA:
    mdata = make_mosaic(n_obs=n_obs, seed=seed)
    UnpairedCCA.setup_mudata(mdata, batch_key="batch")
    model = UnpairedCCA(mdata, **QUICK)
    model.train(1, progress=False, accelerator="cpu")
    return model


@pytest.fixture(scope="module")
def model() -> UnpairedCCA:
    return fitted()


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("n_bytes", [0, 1000, 10_000, 30_000])
def test_a_full_disk_while_saving_leaves_the_earlier_model(model, tmp_path, n_bytes):
    model.save(tmp_path / "model", save_anndata=True)
    before = content(tmp_path)
    with full_disk(n_bytes), pytest.raises(OSError, match="could not be written"):
        model.save(tmp_path / "model", overwrite=True)
    assert content(tmp_path) == before
    UnpairedCCA.load(tmp_path / "model")


FULL = """
import os, sys
sys.path.insert(0, {tests!r})
from contract.test_faults import *
from smalti._storable import write_mudata
from pathlib import Path
folder, n_bytes = Path(sys.argv[1]), int(sys.argv[2])
mdata, model = make_mosaic(n_obs=60), fitted()
write_mudata(mdata, folder / "mine.h5mu")
model.save(folder / "model", save_anndata=True)
before = content(folder)
for call in (
    lambda: write_mudata(mdata, folder / "mine.h5mu"),
    lambda: write_mudata(mdata, folder / "new.h5mu"),
    lambda: model.save(folder / "model", overwrite=True, save_anndata=True),
):
    with full_disk(n_bytes), pytest.raises(OSError, match="could not be written"):
        call()
    assert content(folder) == before
print("whole", flush=True)
os._exit(0)  # HDF5 cannot close what it could not write
"""


@pytest.mark.nightly
@pytest.mark.parametrize("n_bytes", [0, 1000, 20_000, 60_000])
def test_a_full_disk_leaves_mosaics_and_models_with_data_as_they_were(tmp_path, n_bytes):
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    script = [sys.executable, "-c", FULL.format(tests=tests), str(tmp_path), str(n_bytes)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("whole\n"), done.stderr[-2000:]


def test_a_full_disk_leaves_a_picture_as_it_was(tmp_path):
    figure = pl.mosaic(make_mosaic(n_obs=60)).figure
    path = tmp_path / "p.png"
    path.write_bytes(b"old")
    with full_disk(100), pytest.raises(OSError, match=r"p\.png could not be written"), replacing(path) as beside:
        figure.savefig(beside)
    assert content(tmp_path) == {"p.png": b"old"}


def test_a_full_disk_while_a_checkpoint_is_written_keeps_the_one_before(tmp_path):
    mdata = make_mosaic(n_obs=60)
    UnpairedCCA.setup_mudata(mdata, batch_key="batch")
    file = tmp_path / "state.pt"
    UnpairedCCA(mdata, **QUICK).train(1, progress=False, accelerator="cpu", checkpoint=file)
    before = content(tmp_path)
    model = UnpairedCCA(mdata, **QUICK)
    with full_disk(5000), pytest.raises(OSError, match=r"state\.pt could not be written"):
        model.train(2, progress=False, accelerator="cpu", checkpoint=file, resume=True)
    assert content(tmp_path) == before
    model.train(2, progress=False, accelerator="cpu", checkpoint=file, resume=True)
    assert len(model.history["train_loss"]) >= 1


@pytest.mark.parametrize(
    "spoil",
    [
        lambda b: b[: len(b) // 2], lambda b: b[:7], lambda b: b"", lambda b: b"not a file of this kind" * 40,
        lambda b: b"\x89PNG\r\n" * 100 + b[600:], lambda b: b"\x80\x04\x95." * 150 + b[600:],
    ],
    ids=["half", "head", "empty", "text", "picture", "pickle"],
)  # fmt: skip
def test_truncated_and_foreign_mosaics_are_named(tmp_path, spoil):
    path = tmp_path / "in.h5mu"
    with no_pull():
        make_mosaic(n_obs=30).write(path)
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises((ValueError, OSError), match=r"in\.h5mu") as error:
        read(path)
    assert "\n" not in str(error.value).strip()


def test_a_loader_process_that_dies_is_told_and_the_model_stays(model):
    before = model.get_latent_representation()
    killed = []

    def kill(trainer, *args):
        if killed:
            return
        for pid in _children():
            killed.append(pid)
            os.kill(pid, signal.SIGKILL)

    callbacks = {"callbacks": [LambdaCallback(on_train_batch_end=kill)]}
    with pytest.raises(RuntimeError, match=r"loader process ended unexpectedly.*num_workers=0"):
        model.train(30, batch_size=4, progress=False, accelerator="cpu", num_workers=1, trainer_kwargs=callbacks)
    assert killed
    np.testing.assert_allclose(model.get_latent_representation(), before, atol=1e-4)
    model.train(1, progress=False, accelerator="cpu")


def _children() -> list[int]:
    """Return the loader processes of this one."""
    path = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    found = [int(pid) for pid in open(path, encoding="utf-8").read().split()] if os.path.exists(path) else []
    if not found:
        pytest.skip("This system does not list child processes.")
    return [pid for pid in found if "python" in open(f"/proc/{pid}/cmdline", encoding="utf-8").read()]


# ------------------------------------------------------------------ kill -9 of a whole process

KILLED = """
import sys, warnings
warnings.filterwarnings("ignore")
sys.path.insert(0, {tests!r})
from contract.test_faults import *
from smalti._storable import write_mudata
from smalti.model import CLUE

def data():
    return make_mosaic(n_obs=60)

def training(folder):
    mdata = data()
    CLUE.setup_mudata(mdata, batch_key="batch")
    model = CLUE(mdata, n_latent=2, n_hidden=4)
    print("ready", flush=True)
    model.train(10_000, batch_size=16, progress=False, accelerator="cpu", checkpoint=folder / "state.pt")

def saving(folder):
    model = fitted()
    model.save(folder / "model", save_anndata=True)
    print("ready", flush=True)
    while True:
        model.save(folder / "model", overwrite=True, save_anndata=True)

def writing(folder):
    mdata = data()
    write_mudata(mdata, folder / "mine.h5mu")
    print("ready", flush=True)
    while True:
        write_mudata(mdata, folder / "mine.h5mu")

from pathlib import Path
{what}(Path(sys.argv[1]))
"""


def killed(what: str, folder: Path, after: float) -> None:
    """Run a process and kill it some seconds after it said that it is ready."""
    tests = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    script = textwrap.dedent(KILLED.format(tests=tests, what=what))
    process = subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if line == b"ready\n":
            break
    start = time.monotonic()
    while what == "training" and not (folder / "state.pt").exists() and time.monotonic() < start + 120:
        time.sleep(0.05)
    time.sleep(after)
    process.kill()
    process.wait()


@pytest.mark.nightly
@pytest.mark.parametrize("after", [0.1, 0.35, 0.8, 1.7])
@pytest.mark.parametrize("what", ["training", "saving", "writing"])
def test_a_killed_process_leaves_whole_files(tmp_path, what, after):
    killed(what, tmp_path, after)
    if what == "saving":
        assert UnpairedCCA.load(tmp_path / "model").adata is not None
    elif what == "writing":
        with no_pull():
            assert mudata.read_h5mu(tmp_path / "mine.h5mu").n_obs == 60
    else:
        from smalti.model import CLUE

        mdata = make_mosaic(n_obs=60)
        CLUE.setup_mudata(mdata, batch_key="batch")
        model = CLUE(mdata, n_latent=2, n_hidden=4)
        file = tmp_path / "state.pt"
        assert file.exists()
        with pytest.warns(UserWarning, match="stopped"):
            model.train(
                10_000, batch_size=16, progress=False, accelerator="cpu", checkpoint=file, resume=True,
                trainer_kwargs={"callbacks": [LambdaCallback(on_train_batch_end=lambda trainer, *a: _interrupt())]},
            )  # fmt: skip
        assert model.history is not None


STRAIGHT = {"max_epochs": 5, "batch_size": 16, "progress": False, "accelerator": "cpu"}


class KillAt(LambdaCallback):
    """Kills its own process in the middle of an epoch, as a scheduler or the kernel does."""

    def __init__(self, epoch: int, batch: int) -> None:
        super().__init__(on_train_batch_end=lambda trainer, module, out, minibatch, i: self._kill(trainer, i))
        self.epoch, self.batch = epoch, batch

    def _kill(self, trainer, i) -> None:
        if (trainer.current_epoch, i) == (self.epoch, self.batch):
            os.kill(os.getpid(), signal.SIGKILL)


def clue(name: str = "CLUE"):
    import smalti.model as models

    mdata, cls = make_mosaic(n_obs=60), getattr(models, name)
    cls.setup_mudata(mdata, batch_key="batch", labels_key="label")
    return cls(mdata)


RESUMED = """
import sys
sys.path.insert(0, {tests!r})
from contract.test_faults import *
callbacks = {{"callbacks": [KillAt(2, 1)]}}
clue({name!r}).train(**STRAIGHT, checkpoint=sys.argv[1], trainer_kwargs=callbacks)
"""


@pytest.mark.nightly
@pytest.mark.parametrize("name", ["CLUE", "MODIS"])
def test_a_killed_training_goes_on_to_the_same_numbers(tmp_path, name):
    tests, file = os.path.dirname(os.path.dirname(os.path.abspath(__file__))), tmp_path / "state.pt"
    script = [sys.executable, "-W", "ignore", "-c", RESUMED.format(tests=tests, name=name), str(file)]
    done = subprocess.run(script, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr[-2000:]
    straight, resumed = clue(name), clue(name)
    straight.train(**STRAIGHT)
    resumed.train(**STRAIGHT, checkpoint=file, resume=True)
    assert len(resumed.history["train_loss"]) == 5
    np.testing.assert_allclose(resumed.history["train_loss"], straight.history["train_loss"], rtol=1e-6)
    z = straight.get_latent_representation()
    np.testing.assert_allclose(resumed.get_latent_representation(), z, atol=1e-6)


def _interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_checkpoints_of_other_kinds_are_refused(tmp_path):
    mdata = make_mosaic(n_obs=60)
    UnpairedCCA.setup_mudata(mdata, batch_key="batch")
    file = tmp_path / "state.pt"
    for foreign in (b"", b"text", b"PK\x03\x04" + b"\0" * 50):
        file.write_bytes(foreign)
        with pytest.raises(UnsafeFileError, match=r"state\.pt"):
            UnpairedCCA(mdata, **QUICK).train(1, progress=False, accelerator="cpu", checkpoint=file, resume=True)
        assert file.read_bytes() == foreign
