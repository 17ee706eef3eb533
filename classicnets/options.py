"""Options of the command line: read by tyro, refused in one sentence."""

import contextlib
import dataclasses
import difflib
import io
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

# (name, type, default)
Field = tuple[str, Any, Any]
RUNS: Field = ("runs", str, "runs")
JSON: Field = ("json", bool, False)


def parse(program: str, arguments: list[str], fields: list[Field]) -> Any:
    """The options as attributes; ValueError, in one sentence, for an unknown or mistyped one."""
    import tyro

    known = [f"--{name.replace('_', '-')}" for name, _, _ in fields]
    for word in arguments:
        option = word.split("=")[0].replace("_", "-")
        if word.startswith("--") and option.replace("--no-", "--", 1) not in known and option != "--help":
            near = difflib.get_close_matches(option, known, n=1)
            raise ValueError(f"unknown option {option}; {f'the nearest is {near[0]}' if near else 'see --help'}")
    rows = [(name, kind, dataclasses.field(default=default)) for name, kind, default in fields]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = tyro.cli(dataclasses.make_dataclass("Options", rows), prog=program, args=arguments)
        for name, kind, _ in fields:
            value = getattr(options, name)
            if kind == str | None and value == "none":
                setattr(options, name, None)
            elif kind == tuple[str | None, ...]:
                setattr(options, name, tuple(None if word == "none" else word for word in value))
        return options
    except SystemExit as end:
        if not end.code:
            raise
        # tyro frames its complaint: the text before the first rule says it all.
        lines = [line.strip("│ ") for line in complaint.getvalue().splitlines()[1:]]
        text = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.strip("─╰╯"))])
        raise ValueError(f"{text.rstrip('.')}; see '{program} --help'") from None


def runs_root(word: str) -> Path:
    """The runs directory, absolute."""
    if not word or "\0" in word:
        raise ValueError(f"runs must be a directory, got {word!r}")
    return Path(word).absolute()


def positive(options, *names: str) -> None:
    """ValueError for an option that is no sensible size."""
    for name in names:
        if not 1 <= getattr(options, name) < 2**20:
            raise ValueError(f"{name} must be in [1, 2**20), got {getattr(options, name)}")


def taken(arguments: list[str], option: str) -> tuple[str | None, list[str]]:
    """(value of `option`, the other arguments)."""
    for i, word in enumerate(arguments):
        if word == option:
            if i + 1 == len(arguments):
                raise ValueError(f"{option} needs a value")
            return arguments[i + 1], arguments[:i] + arguments[i + 2 :]
        if word.startswith(f"{option}="):
            return word.partition("=")[2], arguments[:i] + arguments[i + 1 :]
    return None, arguments


def dataclass_fields(cls) -> list[Field]:
    """(name, type, default) of a dataclass."""
    return [readable((f.name, f.type, f.default)) for f in dataclasses.fields(cls) if f.init]


def model_fields(fields: list[Field]) -> list[Field]:
    """Of a network's fields, those that are options."""
    return [*(readable(f) for f in fields if f[0] not in ("axis_name", "dtype")), ("dtype", str, "float32")]


def readable(field: Field) -> Field:
    """Choices are read as words, since the checks name them better; "none" among them is None."""
    name, kind, default = field
    if get_origin(kind) is Literal:
        return name, type(get_args(kind)[0]), default
    if type(None) in get_args(kind) and any(get_origin(k) is Literal for k in get_args(kind)):
        return name, str | None, default
    return field


def several(field: Field) -> Field:
    """A field of which several values can be given; `values` are what was given."""
    name, kind, default = field
    return (name, tuple[str, ...], tuple(map(str, default))) if _is_list(kind) else (name, tuple[kind, ...], (default,))


def values(field: Field, given: tuple) -> tuple:
    """The values of a field of `several`. Of a list each is one word with commas, or all words together are one.

    ValueError for an element that is not of the list's kind.
    """
    name, kind, _ = field
    if not _is_list(kind):
        return given
    lists = [word.split(",") for word in given] if any("," in word for word in given) else [given]
    of = next((number for number in (int, float) if get_args(kind)[0] is number), str)
    try:
        return tuple(tuple(of(word) for word in one if word) for one in lists)
    except ValueError:
        what = "whole numbers" if of is int else "numbers"
        raise ValueError(f"{name} takes {what}, got {' '.join(given)!r}") from None


def _is_list(kind) -> bool:
    return get_origin(kind) is tuple


def picked(options, fields: list[Field]) -> dict:
    """The options that `fields` name."""
    return {name: getattr(options, name) for name, _, _ in fields}
