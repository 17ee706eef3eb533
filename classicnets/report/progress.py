"""Progress and tables on a terminal."""

from collections.abc import Sequence
from typing import Any


class Bar:
    """Progress of runs on standard error; off a terminal only what `note` says."""

    def __enter__(self):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        console = Console(stderr=True, highlight=False)
        columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
        self.progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self.tasks: dict[str, Any] = {}
        self.progress.start()
        return self

    def __exit__(self, *_):
        self.progress.stop()

    def __call__(self, run: str, step: int, total: int, record: dict) -> None:
        error = record.get("train_error_running")
        text = run if error is None else f"{run}  train error {error:.1f} %"
        if run not in self.tasks:
            self.tasks[run] = self.progress.add_task(text, total=total)
        self.progress.update(self.tasks[run], completed=step, description=text, visible=step < total)

    def note(self, line: str) -> None:
        self.progress.console.print(line, soft_wrap=True)


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Lines of equal columns, the first `left` of them flush left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in (head, *rows)
    ]
