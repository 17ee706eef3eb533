"""What the command line answers in this process."""

import json
from typing import Any

from helpers.commands import answer


def json_of(capsys, *words) -> Any:
    """Return what a command that succeeds prints with --json."""
    status, out, _ = answer(capsys, *words, "--json")
    assert status == 0
    return json.loads(out)


def text_of(capsys, *words) -> str:
    """Return what a command that succeeds prints."""
    status, out, _ = answer(capsys, *words)
    assert status == 0
    return out


def refusal_of(capsys, *words) -> str:
    """Return the one sentence with which a command refuses its input."""
    status, out, err = answer(capsys, *words)
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    return err
