"""Files are whole at any moment: the old one until the new one is complete."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from smalti import _files
from smalti._files import check_writable, replacing, sha256, write_text

if TYPE_CHECKING:
    from pathlib import Path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_replaced_by_what_was_written_beside_it(tmp_path):
    target = tmp_path / "out.txt"
    target.write_text("old")
    with replacing(target) as beside:
        beside.write_text("new")
        assert target.read_text() == "old"
        assert beside.suffix == ".txt"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["out.txt"]


def test_folders_are_made(tmp_path):
    write_text(tmp_path / "a" / "b" / "out.txt", "text")
    assert (tmp_path / "a" / "b" / "out.txt").read_text() == "text"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt(), OSError(errno.ENOSPC, "full")])
def test_what_fails_leaves_the_old_file_and_nothing_else(tmp_path, error):
    target = tmp_path / "out.txt"
    target.write_text("old")

    def fail():
        with replacing(target) as beside:
            beside.write_text("half")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert names(tmp_path) == ["out.txt"]


def test_a_full_disk_is_told_in_one_sentence_with_the_name(tmp_path):
    with pytest.raises(OSError, match=r"out\.txt could not be written \(No space left.*was there before is as it was"):
        with replacing(tmp_path / "out.txt"):
            raise OSError(errno.ENOSPC, "full")


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to(tmp_path / "real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"


def test_rights_of_the_old_file_are_kept_and_new_ones_are_ordinary(tmp_path):
    target, fresh, plain = tmp_path / "out.txt", tmp_path / "fresh.txt", tmp_path / "plain.txt"
    target.write_text("old")
    target.chmod(0o640)
    plain.write_text("x")
    write_text(target, "new")
    write_text(fresh, "new")
    assert target.stat().st_mode & 0o777 == 0o640
    assert fresh.stat().st_mode == plain.stat().st_mode


def test_what_cannot_be_written_is_found_out_without_leaving_anything(tmp_path):
    check_writable(tmp_path / "new" / "out.txt")
    check_writable(tmp_path / "model", folder=True)
    assert names(tmp_path) == []
    (tmp_path / "file").write_text("x")
    with pytest.raises(IsADirectoryError, match="is a folder, expected a file"):
        check_writable(tmp_path)
    with pytest.raises(NotADirectoryError, match="is a file, expected a folder"):
        check_writable(tmp_path / "file", folder=True)
    with pytest.raises(NotADirectoryError, match="file is a file, not a folder"):
        check_writable(tmp_path / "file" / "out.txt")


def test_a_folder_without_the_right_to_write_is_found_out(tmp_path, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "no")

    monkeypatch.setattr(_files.tempfile, "mkstemp", refuse)  # root may write everywhere
    with pytest.raises(PermissionError, match=r"out\.txt could not be written \(Permission denied"):
        check_writable(tmp_path / "out.txt")


def test_the_checksum_is_that_of_the_bytes(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert os.listdir(tmp_path) == ["x"]
