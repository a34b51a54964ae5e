"""Bad calls of the public API and bad command lines are refused in one clear sentence each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import _bad_calls
import _bad_lines
from typer.testing import CliRunner

from smalti import cli

if TYPE_CHECKING:
    from pathlib import Path


def test_bad_calls_are_refused_in_a_sentence_of_this_package(tmp_path: Path) -> None:
    found = {name: _bad_calls.verdict(function, given) for name, function, given in _bad_calls.spoilt(tmp_path)}
    assert len(found) >= 200
    assert {name: text for name, text in found.items() if text} == {}


def test_bad_command_lines_are_refused_and_change_no_file(tmp_path: Path) -> None:
    def content() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    lines = _bad_lines.lines(tmp_path)
    assert len(lines) >= 45
    before, runner, failed = content(), CliRunner(), {}
    for line in lines:
        done = runner.invoke(cli.app, line)
        if found := _bad_lines.verdict(done.exit_code, done.output):
            failed[" ".join(line)] = found
        assert content() == before, line
    assert failed == {}
