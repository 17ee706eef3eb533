"""Text for a terminal, or for what reads a command's output: lines and tables."""

import io
import re
import sys
from collections.abc import Sequence

# Characters a row may have where no terminal limits it.
UNFOLDED = 10**6
# A cell of a column of numbers: 1,234 or 5.6 % or none.
NUMBER = re.compile(r"([-+]?[\d,.]+(e[-+]\d+)?( ?[%A-Za-z]{1,3})?|none|)")


def visible(text: str) -> str:
    """Return the text with a picture in place of each control character but tabs and line ends."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda match: chr(0x2400 + ord(match[0])), text)
    return re.sub(r"[\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


def line(text: str) -> str:
    """Return the text as one line of a terminal, on which it can do nothing but be read."""
    if text.isprintable():
        return text
    text = visible(text).replace("\t", " ").replace("\n", "\u240a")
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table with a header, its columns of numbers flush right.

    On a terminal text is folded to its width; elsewhere a row is one line, however long.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = Console().width if sys.stdout.isatty() else UNFOLDED
    columns = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name, *cells in zip(head, *rows, strict=True):
        numeric = any(cells) and all(NUMBER.fullmatch(cell) for cell in cells)
        columns.add_column(Text(line(name)), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric)
    for row in rows:
        columns.add_row(*(Text(line(cell)) for cell in row))
    output = io.StringIO()
    Console(file=output, width=width, color_system=None).print(columns)
    return [text.rstrip() for text in output.getvalue().splitlines()]
