"""Progress of runs: a live table on a terminal, lines elsewhere."""

import contextlib
import os
import pty
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest

from classicnets.report import progress
from classicnets.report.progress import Bar, Count


def test_several_runs_say_how_far_they_are_every_thirty_seconds(monkeypatch, capsys):
    times = iter([0.0, 10.0, 31.0, 31.0, 40.0, 62.0, 62.0])
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: next(times)))
    with Bar() as bar:
        for step in (1, 2, 3, 4):
            bar("net-s0", step, 9, {"test_error": 50.0})
    assert capsys.readouterr().err.splitlines() == ["net-s0: 2 of 9  test 50.0 %", "net-s0: 4 of 9  test 50.0 %"]


def test_a_count_is_one_line_as_it_is_every_thirty_seconds(monkeypatch, capsys):
    clock = SimpleNamespace(now=0.0)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: clock.now))
    what = f"preparing [red] :car: {'long ' * 30}"
    with Count(what) as count:
        for clock.now, done in ((10.0, 1), (31.0, 2000), (40.0, 3000)):
            count(done, 9000)
    assert capsys.readouterr().err == f"{what}: 2,000 of 9,000\n"


@pytest.mark.process
@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_live_table_on_a_terminal_and_silent_elsewhere(terminal):
    code = (
        "from classicnets.report.progress import Bar\n"
        "with Bar() as bar:\n"
        "    bar('all 2 runs', 1, 2, {})\n"
        "    bar('net[a]-s1', 11, 33, {'train_error_running': 12.34, 'test_error': 5.0})\n"
        "    bar('net-s0', 33, 33, {})\n"
        "    bar.note('1/2 net-s0: complete')\n"
    )
    ours, theirs = pty.openpty()
    where = {
        "stderr": theirs if terminal else subprocess.PIPE,
        "env": {**os.environ, "COLUMNS": "120", "TERM": "xterm"},
    }
    process = subprocess.Popen([sys.executable, "-c", code], **where)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # that is how a terminal ends
        while part := os.read(ours, 4096) if terminal else process.stderr.read():
            said += part
    process.communicate()
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", said.decode())
    rows = ["all 2 runs .* 1/2", "net\\[a\\]-s1 .* 11/33 train 12.3 %  test 5.0 %"]
    assert [bool(re.search(row, text)) for row in rows] == [terminal] * 2
    assert "1/2 net-s0: complete" in text
    assert terminal or text == "1/2 net-s0: complete\n"
    assert "33/33" not in text


def test_notes_are_shown_as_they_are(capsys):
    with Bar() as bar:
        bar.note("bad tag [/INST] in [red]r[v2][/red] :warning:\x1b[31m\nsecond")
    assert capsys.readouterr().err == "bad tag [/INST] in [red]r[v2][/red] :warning:\u241b[31m\u240asecond\n"
