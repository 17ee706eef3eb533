"""The command line, in this process or as a program."""

import os
import subprocess
import sys

import pytest

from classicnets.cli.main import main


def answer(capsys, *words) -> tuple[int, str, str]:
    """Return (exit status, standard output, standard error) of the command line in this process."""
    with pytest.raises(SystemExit) as end:
        main([*map(str, words)])
    return int(end.value.code or 0), *capsys.readouterr()


def start(*words, **environment) -> subprocess.CompletedProcess:
    """Return the command line, ended, of a process of its own; its output is bytes."""
    command = [sys.executable, "-m", "classicnets", *map(str, words)]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, check=False)


def unframed(text: str) -> str:
    """Return what the option parser says in a frame as one line."""
    return " ".join(word for word in text.split() if word.strip("│─╭╮╰╯"))
