"""Options of the command line: read by tyro, refused in one sentence."""

import contextlib
import dataclasses
import io
import re
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

from classicnets.system.words import nearest

# (name, type, default)
Field = tuple[str, Any, Any]
RUNS: Field = ("runs", str, "runs")
ROOTS: Field = ("runs", tuple[str, ...], ("runs",))
JSON: Field = ("json", bool, False)
# Options of which one value is a list.
LISTS = ("boundaries", "units", "features")


# Short words for what is written most.
ALIASES = {"learning_rate": "lr", "weight_decay": "wd", "batch_size": "bs"}
# Several values as one word: 0.1,0.01 or 0-3 or 0..3.
LIST, RANGE = re.compile(r"[^,\s]+(,[^,\s]+)+"), re.compile(r"(\d+)(?:-|\.\.)(\d+)")


def parse(program: str, arguments: list[str], fields: list[Field]) -> Any:
    """Return the options as attributes; raise ValueError, in one sentence, for an unknown or mistyped one."""
    import tyro

    kinds = {name: kind for name, kind, _ in fields}
    arguments = _read(arguments, kinds)
    rows = [(name, _with_alias(name, kind), dataclasses.field(default=default)) for name, kind, default in fields]
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            options = tyro.cli(dataclasses.make_dataclass("Options", rows), prog=program, args=arguments)
    except SystemExit as end:
        if not end.code:
            raise
        # tyro frames its complaint: the text before the first rule says it all.
        lines = [line.strip("│ ") for line in complaint.getvalue().splitlines()[1:]]
        text = " ".join(lines[: next(i for i, line in enumerate(lines) if not line.strip("─╰╯"))])
        raise ValueError(f"{text.rstrip('.')}; see '{program} --help'") from None
    for name, kind, _ in fields:
        value = getattr(options, name)
        if kind == str | None and _is_none(value):
            setattr(options, name, None)
        elif kind == tuple[str | None, ...]:
            setattr(options, name, tuple(None if _is_none(word) else word for word in value))
    return options


def _read(arguments: list[str], kinds: dict[str, Any]) -> list[str]:
    """Return `arguments` as tyro takes them; raise ValueError for an unknown option, or for several values in a word.

    "none" is None where an option may be that; a flag of a sweep, which takes several values, may stand alone.
    """
    names = {f"--{name.replace('_', '-')}": name for name in kinds}
    names |= {f"--{alias}": name for name, alias in ALIASES.items() if name in kinds}
    read, name, given = [], "", dict[str, str]()
    for i, word in enumerate(arguments):
        if not word.startswith("--"):
            read += _values(word, name, kinds.get(name))
            continue
        option, equals, value = word.partition("=")
        option = option.replace("_", "-")
        name = names.get(option) or names.get(option.replace("--no-", "--", 1), "")
        if not name and option != "--help":
            raise ValueError(f"unknown option {option}{nearest(option, names, 'see --help')}")
        if given.setdefault(name, option) != option and {option, given[name]} & {f"--{a}" for a in ALIASES.values()}:
            raise ValueError(f"{given[name]} and {option} are one option: give one of them")
        alone = not equals and (i + 1 == len(arguments) or arguments[i + 1].startswith("--"))
        if kinds.get(name) == tuple[bool, ...] and (alone or option not in names):
            read += [f"--{name.replace('_', '-')}", str(option in names)]
        elif equals:
            read += [option, *_values(value, name, kinds[name])]
        else:
            read.append(option)
    return read


def _values(word: str, name: str, kind) -> list[str]:
    """Return the words that stand for one: None for none, and those of a list that commas part."""
    if _is_none(word) and _may_be_none(kind):
        return ["None"]
    if kind == tuple[int, ...] and name in LISTS and LIST.fullmatch(word):
        return word.split(",")
    numbers = {int, float} & {*_kinds(kind)}
    if numbers and (LIST.fullmatch(word) or RANGE.fullmatch(word)):
        found = RANGE.fullmatch(word)
        first, last = map(int, found.groups()) if found else (0, 0)
        if not found or first < last <= first + 1000:
            several = " ".join(map(str, range(first, last + 1))) if found else word.replace(",", " ")
            option = f"--{name.replace('_', '-')}"
            raise ValueError(
                f"{name} takes numbers, got {word!r}: several are words apart, and make a sweep: {option} {several}"
            )
    return [word]


def _kinds(kind) -> tuple:
    """Return the types that one value may have, of an annotation or of the tuple that a sweep makes of it."""
    kind = get_args(kind)[0] if get_origin(kind) is tuple else kind
    return get_args(kind) or (kind,)


def _may_be_none(kind) -> bool:
    return type(None) in _kinds(kind)


def _is_none(word) -> bool:
    return isinstance(word, str) and word.lower() == "none"


def _with_alias(name: str, kind) -> Any:
    import tyro

    return Annotated[kind, tyro.conf.arg(aliases=[f"--{ALIASES[name]}"])] if name in ALIASES else kind


def runs_root(word: str) -> Path:
    """The runs directory, absolute."""
    if not word or "\0" in word:
        raise ValueError(f"runs must be a directory, got {word!r}")
    return Path(word).expanduser().absolute()


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
