"""Values of a record as other tools take them."""

import json

from classicnets.runs.record import is_number


def plain(value: object) -> bool | int | float | str:
    """Return a field's value as a number or a word: None is "none", and a list is JSON text."""
    return value if isinstance(value, bool | int | float | str) else "none" if value is None else json.dumps(value)


def numbers(line: dict) -> dict[str, int | float]:
    """Return what a line of the log, or a run's results, holds of numbers beside the step."""
    return {name: value for name, value in line.items() if name != "step" and is_number(value)}
