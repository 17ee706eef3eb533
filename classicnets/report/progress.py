"""Progress of runs on a terminal, or in lines."""

import time
from pathlib import Path
from typing import Any

from classicnets.report.text import line

# Seconds between two lines of the same runs, off a terminal.
QUIET = 30.0


class Bar:
    """A live table on standard error, one row a run: steps, errors, time left.

    Off a terminal lines, each flushed: of one run, whose experiment's `folder` is given, its directory and a line an
    epoch; of several runs how far they are, every QUIET seconds; and what `note` says.
    """

    def __init__(self, folder: Path | None = None):
        self.folder = folder

    def __enter__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        words = [TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[errors]}")]
        columns = (words[0], BarColumn(), MofNCompleteColumn(), words[1], TimeRemainingColumn())
        self.live = console.is_terminal
        self.progress = Progress(*columns, console=console, disable=not self.live)
        self.tasks: dict[str, Any] = {}
        self.logged: dict[str, int] = {}
        self.said_at = time.monotonic()
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, run: str, step: int, total: int, record: dict) -> None:
        shown = {"train": record.get("train_error_running"), "test": record.get("test_error")}
        errors = "  ".join(f"{name} {error:.1f} %" for name, error in shown.items() if error is not None)
        if self.live:
            if run not in self.tasks:
                self.tasks[run] = self.progress.add_task(run, total=total, errors=errors)
            self.progress.update(self.tasks[run], completed=step, errors=errors, visible=step < total)
        elif self.folder:
            self._epoch(self.folder / run, total, record, errors)
        elif time.monotonic() - self.said_at >= QUIET:
            self.said_at = time.monotonic()
            self.note(f"{run}: {step} of {total}  {errors}".rstrip())

    def _epoch(self, run: Path, total: int, record: dict, errors: str) -> None:
        """Say where the run is kept, and then each line that its log gains."""
        if run.name not in self.logged:
            self.logged[run.name] = record.get("step", 0)
            self.note(str(run))
        step = record.get("step", 0)
        if step > self.logged[run.name]:
            self.logged[run.name] = step
            seconds = record.get("seconds")
            took = "" if seconds is None else f"  {seconds:.1f} s"
            self.note(f"epoch {record['epoch']:.4g}  step {step}/{total}  {errors}{took}")

    def note(self, text: str) -> None:
        self.progress.console.print(line(text), soft_wrap=True, markup=False, emoji=False)
        self.progress.console.file.flush()


class Count:
    """How much of how much is done: a bar on a terminal, a line every QUIET seconds elsewhere."""

    def __init__(self, what: str):
        self.what, self.said_at = what, time.monotonic()

    def __enter__(self):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        )
        self.live = console.is_terminal
        self.progress = Progress(*columns, console=console, disable=not self.live)
        self.task = self.progress.add_task(self.what, total=None)
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, done: int, total: int) -> None:
        self.progress.update(self.task, completed=done, total=total)
        if not self.live and time.monotonic() - self.said_at >= QUIET:
            self.said_at = time.monotonic()
            text = line(f"{self.what}: {done:,} of {total:,}")
            self.progress.console.print(text, soft_wrap=True, markup=False, emoji=False)
            self.progress.console.file.flush()
