"""Which signals end a program."""

import subprocess
import sys

import pytest

CODE = """
import os, signal, time
from classicnets.system import signals
signals.install()
signal.signal(signal.{name}, lambda *_: None)
os.kill(os.getpid(), signal.{name})
time.sleep(1)
print("lives on")
"""


@pytest.mark.process
@pytest.mark.parametrize(("name", "status"), [("SIGCHLD", 0), ("SIGUSR1", 0), ("SIGTERM", 75), ("SIGINT", 75)])
def test_a_signal_that_another_handler_takes_ends_nothing(name, status):
    done = subprocess.run([sys.executable, "-c", CODE.format(name=name)], capture_output=True, text=True)
    assert (done.returncode, "lives on" in done.stdout) == (status, status == 0)
