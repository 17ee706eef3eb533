"""Progress and tables on a terminal."""

import re
from collections.abc import Sequence
from typing import Any


class Bar:
    """A live table on standard error, one row a run: steps, errors, time left; off a terminal only what `note` says."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        words = [TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[errors]}")]
        columns = (words[0], BarColumn(), MofNCompleteColumn(), words[1], TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, run: str, step: int, total: int, record: dict) -> None:
        found = {"train": record.get("train_error_running"), "test": record.get("test_error")}
        errors = "  ".join(f"{name} {error:.1f} %" for name, error in found.items() if error is not None)
        if run not in self.tasks:
            self.tasks[run] = self.progress.add_task(run, total=total, errors=errors)
        self.progress.update(self.tasks[run], completed=step, errors=errors, visible=step < total)

    def note(self, text: str) -> None:
        self.progress.console.print(line(text), soft_wrap=True, markup=False, emoji=False)


def visible(text: str) -> str:
    """The text with a picture in place of each control character but tabs and line ends."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f]", lambda found: chr(0x2400 + ord(found[0])), text)
    return re.sub(r"[\x7f-\x9f\ud800-\udfff]", "\ufffd", text)


def line(text: str) -> str:
    """The text as one line of a terminal, on which it can do nothing but be read."""
    if text.isprintable():
        return text
    text = visible(text).replace("\t", " ").replace("\n", "\u240a")
    return "".join(c if c.isprintable() else "\ufffd" for c in text)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of equal columns, the first `left` of them flush left."""
    head, *rows = ([line(cell) for cell in row] for row in (head, *rows))
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
