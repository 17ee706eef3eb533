"""Tables: a header, numbers flush right, one line a row but on a terminal, where text is folded to its width."""

import os
import pty
import subprocess
import sys

import pytest

from classicnets.report.text import line, table


def test_numbers_are_flush_right_and_nothing_is_cut():
    head, rows = ("net", "weights", "error", "note"), [("a", "1,234", "5.6 %", "x" * 300), ("much", "7", "", "[red]")]
    assert table(head, rows) == [
        "net   weights  error  note",
        "a       1,234  5.6 %  " + "x" * 300,
        "much        7         [red]",
    ]
    assert table(("shape", "n"), [("8x8", "none"), ("10", "2")]) == ["shape     n", "8x8    none", "10        2"]
    assert table(("run", "state"), []) == ["run  state"]


def test_a_cell_is_one_line_and_does_nothing():
    assert table(("a",), [("b\x1b[31m\nc",)]) == ["a", "b\u241b[31m\u240ac"]
    assert line("tab\tend\u202e") == "tab end\ufffd"


@pytest.mark.process
def test_on_a_terminal_text_is_folded_to_its_width():
    code = "from classicnets.report.text import table; print(*table(('n', 'note'), [('1', 'word ' * 30)]), sep='\\n')"
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], stdout=theirs, env={**os.environ, "COLUMNS": "40"}, check=True)
    os.close(theirs)
    lines = os.read(ours, 4096).decode().splitlines()
    os.close(ours)
    assert lines[0] == "n  note"
    assert len(lines) > 4
    assert max(map(len, lines)) <= 40
    assert sum(text.count("word") for text in lines) == 30
