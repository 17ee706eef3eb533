"""The command line, called in this process."""

import json

import pytest

from classicnets.cli.main import main


def status_of(*words) -> int:
    """Return the exit status of a command."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    return int(end.value.code or 0)


def json_of(capsys, *words):
    """Return what a command that succeeds prints with --json."""
    assert status_of(*words, "--json") == 0
    return json.loads(capsys.readouterr().out)


def refusal_of(capsys, *words) -> str:
    """Return the one sentence with which a command refuses its input."""
    assert status_of(*words) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    return err
