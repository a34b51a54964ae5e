from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
from _server import FileServer

from smalti.datasets._download import cache_directory, fetch, record_path

NAME = "table.h5ad.gz"
CONTENT = np.random.default_rng(0).bytes(2_000_000)


def get(server, folder):
    return fetch(f"{server.url}/{NAME}", directory=folder, progressbar=False)


def test_a_file_is_downloaded_once(tmp_path):
    with FileServer({NAME: CONTENT}) as server:
        for progressbar in (True, False):
            path = fetch(f"{server.url}/{NAME}", directory=tmp_path, progressbar=progressbar)
            assert path.read_bytes() == CONTENT
        assert server.requests == [(NAME, None)]
    assert sorted(path.name for path in tmp_path.iterdir()) == [NAME, f"{NAME}.json"]


def test_the_checksum_of_the_first_download_is_recorded(tmp_path):
    with FileServer({NAME: CONTENT}) as server:
        record = json.loads(record_path(get(server, tmp_path)).read_text())
        assert record["url"] == f"{server.url}/{NAME}"
    assert record["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert record["bytes"] == len(CONTENT)


def test_a_broken_connection_is_taken_up_where_it_broke(tmp_path):
    with FileServer({NAME: CONTENT}, break_after=[700_000, 500_000]) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT
        ranges = [wanted for _, wanted in server.requests]
    assert ranges == [None, "bytes=700000-", "bytes=1200000-"]


def test_the_next_call_goes_on_where_the_last_one_failed(tmp_path):
    with FileServer({NAME: CONTENT}, break_after=[600_000, 0]) as server:
        with pytest.raises(ConnectionError, match="Could not download"):
            get(server, tmp_path)
        assert not (tmp_path / NAME).exists()
        assert get(server, tmp_path).read_bytes() == CONTENT
        assert server.requests[-1] == (NAME, "bytes=600000-")


def test_a_server_that_cannot_resume_sends_all_again(tmp_path):
    with FileServer({NAME: CONTENT}, break_after=[600_000], resumes=False) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT


def test_parts_of_two_versions_are_never_joined(tmp_path):
    other = CONTENT[::-1]
    with FileServer({NAME: CONTENT}, break_after=[600_000, 0]) as server:
        with pytest.raises(ConnectionError):
            get(server, tmp_path)
        server.files[NAME], server.version = other, '"2"'
        assert get(server, tmp_path).read_bytes() == other


def test_a_part_that_is_too_long_is_thrown_away(tmp_path):
    (tmp_path / f"{NAME}.part").write_bytes(CONTENT + b"more")
    (tmp_path / f"{NAME}.part.version").write_text('"1"')
    with FileServer({NAME: CONTENT}) as server:
        assert get(server, tmp_path).read_bytes() == CONTENT


def test_a_file_that_changed_since_the_first_download_is_refused(tmp_path):
    with FileServer({NAME: CONTENT}) as server:
        get(server, tmp_path).unlink()
        server.files[NAME] = CONTENT[::-1]
        with pytest.raises(ValueError, match="not the one that was downloaded first.*delete .*json"):
            get(server, tmp_path)
        record_path(tmp_path / NAME).unlink()
        assert get(server, tmp_path).read_bytes() == CONTENT[::-1]


def test_a_missing_file_is_reported_with_its_address(tmp_path):
    with FileServer({}) as server:
        with pytest.raises(ConnectionError, match=f"Could not download {server.url}/{NAME} .*404"):
            get(server, tmp_path)
        assert len(server.requests) == 1


def test_without_a_network_the_error_says_what_to_do(tmp_path):
    with FileServer({}) as server:
        url = server.url
    with pytest.raises(ConnectionError, match=f"Check the connection.*put it at {tmp_path / NAME}"):
        fetch(f"{url}/{NAME}", directory=tmp_path, progressbar=False)


def test_a_file_put_there_by_hand_is_taken(tmp_path):
    (tmp_path / NAME).write_bytes(CONTENT)
    assert fetch(f"http://127.0.0.1:9/{NAME}", directory=tmp_path).read_bytes() == CONTENT
    assert record_path(tmp_path / NAME).exists()


def test_the_cache_is_the_argument_else_the_variable_else_that_of_the_system(tmp_path, monkeypatch):
    monkeypatch.setenv("SMALTI_CACHE_DIR", str(tmp_path / "variable"))
    assert cache_directory(tmp_path / "argument") == tmp_path / "argument"
    assert cache_directory() == tmp_path / "variable"
    assert (tmp_path / "variable").is_dir()
    monkeypatch.delenv("SMALTI_CACHE_DIR")
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "system" / name)
    assert cache_directory() == tmp_path / "system" / "smalti"
