"""Sweeps on the command line, and the processes that they start."""

import contextlib
import json
import os
import signal
import subprocess
import sys

NET = ["sweep", "cifar_resnet", "--width", "0.25", "--shortcut", "none", "A", "--epochs", "2", "--json"]
GRID = [*NET, "--seeds", "2"]


def start(root, *more, grid=GRID, depths=("8",)):
    command = [sys.executable, "-m", "classicnets.cli.main", *grid, "--depth", *depths, "--runs", str(root), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def swept(root, *more, grid=GRID, depths=("8",)) -> list[dict]:
    process = start(root, *more, grid=grid, depths=depths)
    out, err = process.communicate(timeout=1200)
    assert process.returncode == 0, err
    return json.loads(out)


def digests(rows) -> dict[str, str]:
    return {row["run"]: row["parameters_sha256"] for row in rows}


def processes(pattern: str) -> list[int]:
    """Those whose command line this is a part of."""
    return [int(word) for word in subprocess.run(["pgrep", "-f", pattern], capture_output=True).stdout.split()]


def kill(pattern: str, rng) -> bool:
    """SIGKILL to one of the processes of this command line; whether there was one."""
    found = processes(pattern)
    if found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(rng.choice(found), signal.SIGKILL)
    return bool(found)
