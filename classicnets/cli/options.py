"""Options of a command: a dataclass whose fields' docstrings are the help, read by tyro.

"none" is None, a choice that is mistyped names the nearest, a list is words apart or one word with commas.
"""

import dataclasses
import re
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from classicnets.system.fields import documentation
from classicnets.system.words import nearest

if TYPE_CHECKING:
    from classicnets.training.recipes import Paper

T = TypeVar("T")
Rule = PrimitiveConstructorSpec | None
# Short words for what is written most.
ALIASES = {"learning_rate": "--lr", "weight_decay": "--wd", "batch_size": "--bs"}
DTYPES = Literal["float32", "bfloat16", "float64"]
REGISTRY = ConstructorRegistry()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Place:
    """Where runs are, and how the answer is printed."""

    runs: str = "runs"
    """Directory below which runs are kept, one of their own each."""
    json: bool = False
    """Print the answer as JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneRun(Place):
    """Look at one run: eval gives its errors, rerun repeats it bit by bit, verify checks its files."""

    run: tyro.conf.Positional[str]
    """Id of the run below the runs directory, or its directory."""


def parse(cls: type[T], arguments: Sequence[str], prog: str) -> T:
    """Return the options of `cls`, a dataclass; fields that are dataclasses are groups of options.

    What cannot be read ends the program with exit status 2 and the parser's own words on standard error.
    """
    markers = tyro.conf
    config = (markers.OmitArgPrefixes, markers.HelptextFromCommentsOff, markers.PositionalMetavarFromFieldName)
    return tyro.cli(cls, prog=prog, args=arguments, config=config, registry=REGISTRY)


def with_groups(cls: type, **groups: type) -> type:
    """Return the dataclass `cls` with a group of options, an instance of a dataclass, under each name."""
    fields = [(name, group, dataclasses.field(default_factory=group)) for name, group in groups.items()]
    made = dataclasses.make_dataclass("Options", fields, bases=(cls,), frozen=True, kw_only=True)
    made.__doc__ = cls.__doc__
    return made


def group(
    cls: type, defaults: dict[str, Any] | None = None, *, several: bool = False, without: Sequence[str] = ()
) -> type:
    """Return a dataclass of the fields of `cls`, with help and short words, as a group of options.

    defaults: in place of those of `cls`. several: each option takes one value or more, and () stands for the default.
    """
    rows, texts = [], documentation(cls)
    for field in dataclasses.fields(cls):
        if field.init and field.name not in without:
            kind = DTYPES if field.name == "dtype" else field.type
            default = (defaults or {}).get(field.name, field.default)
            default = getattr(default, "__name__", default) if field.name == "dtype" else default
            aliases = [ALIASES[field.name]] if field.name in ALIASES else None
            hint = None
            if several:
                hint, kind, default = f"(default: {_shown(default)})", Annotated[tuple[kind, ...], _several(kind)], ()
            option = tyro.conf.arg(help=texts.get(field.name), aliases=aliases, help_behavior_hint=hint)
            rows.append((field.name, Annotated[kind, option], dataclasses.field(default=default)))
    made = dataclasses.make_dataclass(cls.__name__, rows, frozen=True)
    made.__doc__ = (cls.__doc__ or "").strip().partition("\n")[0]
    return made


def network(name: str, defaults: dict[str, Any] | None = None, *, several: bool = False, without=()) -> type:
    """Return the fields of the network `name` as a group of options, with the defaults of that name."""
    from classicnets.models import create, fields_of

    own = {field: default for field, _, default in fields_of(name)} | (defaults or {})
    return group(type(create(name)), own, several=several, without=("axis_name", "parent", "name", *without))


def network_execution(name: str, defaults: dict[str, Any]) -> type:
    """Return those options of `network` that decide how it is run."""
    from classicnets.models import create

    cls = type(create(name))
    kept = execution_options(cls)
    return network(name, defaults, without=[f.name for f in dataclasses.fields(cls) if f.name not in kept])


def execution_options(cls: type) -> list[str]:
    """Return those fields of a network's class that decide how it is run, never what it computes."""
    return [field.name for field in dataclasses.fields(cls) if field.metadata.get("execution")]


def given(options: Any) -> dict[str, Any]:
    """Return those of a group of options that are not the default."""
    default = type(options)()
    return {name: value for name, value in vars(options).items() if value != getattr(default, name)}


def run_label(name: str, fields: dict[str, Any]) -> str:
    """Return the name of a run's directory, up to its seed and hash: the network's, and `fields` with their values."""
    values = {field: "+".join(map(str, v)) if isinstance(v, tuple) else v for field, v in fields.items()}
    label = "-".join([name, *(f"{field}{value}" for field, value in values.items())])
    return "".join(c for c in label if c.isascii() and (c.isalnum() or c in "-_.+"))[:90]


def leading(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return (the words before the first option, the rest)."""
    end = next((i for i, word in enumerate(arguments) if word.startswith("-")), len(arguments))
    return list(arguments[:end]), list(arguments[end:])


def first_word(arguments: Sequence[str], what: str, choices: str) -> tuple[str, list[str]]:
    """Return (the word that a command needs first, the rest); raise ValueError if there is none."""
    if not arguments or arguments[0].startswith("-"):
        raise ValueError(f"name a {what} first; {choices}")
    return arguments[0], list(arguments[1:])


def model_first(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """Return (name, the rest) of a command that names a network first; raise ValueError if it does not."""
    from classicnets.models import ENTRIES

    return first_word(arguments, "model", f"choose from {', '.join(ENTRIES)}")


def runs_root(word: str) -> Path:
    """Return the runs directory, absolute; raise ValueError for a word that can be none."""
    if not word or "\0" in word:
        raise ValueError(f"runs must be a directory, got {word!r}")
    return Path(word).expanduser().absolute()


def root_of(arguments: Sequence[str]) -> Path:
    """Return the runs directory that --runs names, before the other options can be known."""
    return runs_root(early("runs", arguments) or "runs")


def early(option: str, arguments: Sequence[str]) -> str | None:
    """Return the value of an option on which others depend, before they can be known; None for none."""
    parser = ArgumentParser("classicnets", add_help=False, allow_abbrev=False)
    parser.add_argument(f"--{option}", dest="value")
    value = parser.parse_known_args(list(arguments))[0].value
    return None if value is None or value.lower() == "none" else value


def action_of(command: str, arguments: Sequence[str], actions: dict[str, Callable[[list[str]], int]]) -> int:
    """Return the exit status of the action that the first word names; raise ValueError, with the choices, for none."""
    action, *rest = arguments or [""]
    if action not in actions:
        *most, last = actions
        raise ValueError(f"unknown action {action!r} of {command}; choose {', '.join(most)} or {last}")
    return actions[action](rest)


# A recipe's name, with the option --recipe.
RecipeName = Annotated[str | None, tyro.conf.arg(name="recipe")]


def recipe_of(arguments: Sequence[str]) -> "Paper | None":
    """Return the paper's recipe that --recipe names, before the other options, whose defaults it decides, are known."""
    from classicnets.training.recipes import paper

    name = early("recipe", arguments)
    return None if name is None else paper(name)


def require_one_length(chosen: "Paper | None", steps: Any, epochs: Any) -> None:
    """Raise ValueError for epochs that would be without effect, since a paper's recipe counts in steps.

    steps: in force, one value or several; epochs: what was given, None or () for nothing.
    """
    stated = chosen.recipe["steps"].value if chosen and "steps" in chosen.recipe else None
    if stated and epochs and (stated in steps if isinstance(steps, tuple) else stated == steps):
        raise ValueError(
            f"epochs must not be given with a recipe that counts steps ({stated:,}), got {epochs}; give --steps, and"
            " --boundaries in steps"
        )


def require_sizes(sizes: dict[str, int]) -> None:
    """Raise ValueError for an option that is no sensible size."""
    for name, size in sizes.items():
        if not 1 <= size < 2**20:
            raise ValueError(f"{name} must be in [1, 2**20), got {size}")


@REGISTRY.primitive_rule
def _none(info: PrimitiveTypeInfo) -> Rule:
    if info.type is not NoneType:
        return None

    def read(words: list[str]) -> None:
        if words[0].lower() != "none":
            raise ValueError(f"{words[0]!r} is not none")

    return PrimitiveConstructorSpec(1, "none", read, lambda value: value is None, lambda _: ["none"])


@REGISTRY.primitive_rule
def _choice(info: PrimitiveTypeInfo) -> Rule:
    if info.type_origin is not Literal:
        return None
    choices = {str(choice).lower() if choice is None else str(choice): choice for choice in get_args(info.type)}

    def read(words: list[str]) -> Any:
        if words[0] not in choices:
            raise ValueError(f"{words[0]!r} is none of {', '.join(choices)}{nearest(words[0], choices, '')}")
        return choices[words[0]]

    is_choice = list(choices.values()).__contains__
    return PrimitiveConstructorSpec(1, f"{{{','.join(choices)}}}", read, is_choice, lambda value: [str(value)])


@REGISTRY.primitive_rule
def _number(info: PrimitiveTypeInfo) -> Rule:
    if info.type not in (int, float):
        return None

    def read(words: list[str]) -> Any:
        try:
            return info.type(words[0])
        except ValueError:
            what = "a whole number" if info.type is int else "a number"
            raise ValueError(f"{words[0]!r} is not {what}{_several_hint(words[0])}") from None

    def is_number(value: Any) -> bool:
        return type(value) in (int, info.type)

    return PrimitiveConstructorSpec(1, info.type.__name__.upper(), read, is_number, lambda value: [str(value)])


@REGISTRY.primitive_rule
def _list(info: PrimitiveTypeInfo) -> Rule:
    """Numbers or choices as words apart, or as one word with commas; words of text stand apart."""
    if info.type_origin is not tuple:
        return None
    kind = get_args(info.type)[0]
    one = _spec(kind)

    def read(words: list[str]) -> tuple:
        parts = words if kind is str else [part for word in words for part in _parts(word)]
        return tuple(one.instance_from_str([part]) for part in parts)

    return _words(one, f"[{one.metavar} ...]", read)


def _several(kind: Any) -> PrimitiveConstructorSpec:
    """Return how one value or more of a kind are read: a flag alone is true, and of lists each is a word with commas.

    Where no word has a comma all together are one list.
    """
    one = _spec(kind)

    def read(words: list[str]) -> tuple:
        if get_origin(kind) is tuple:
            lists = map(_parts, words) if any("," in word for word in words) else [words]
            return tuple(one.instance_from_str(parts) for parts in lists)
        if not words and kind is not bool:
            raise ValueError("it needs at least one value")
        return tuple(one.instance_from_str([word]) for word in words or ["True"])

    return _words(one, f"{one.metavar} ...", read)


def _words(one: PrimitiveConstructorSpec, metavar: str, read: Callable[[list[str]], tuple]) -> PrimitiveConstructorSpec:
    """Return how `read` makes a tuple of any number of words, each of which is shown as `one` shows it."""

    def shown(values: tuple) -> list[str]:
        return [word for value in values for word in one.str_from_instance(value)]

    return PrimitiveConstructorSpec("*", metavar, read, lambda value: isinstance(value, tuple), shown)


def _parts(word: str) -> list[str]:
    return [part for part in word.split(",") if part]


def _spec(kind: Any) -> PrimitiveConstructorSpec:
    """Return how one value of a kind is read."""
    with REGISTRY:
        spec = ConstructorRegistry.get_primitive_spec(PrimitiveTypeInfo.make(kind, set()))
    assert isinstance(spec, PrimitiveConstructorSpec), kind
    return spec


def _several_hint(word: str) -> str:
    """Return the end of a sentence on a word that stands for several numbers: 0.1,0.01 or 0-3 or 0..3."""
    span = re.fullmatch(r"(\d+)(?:-|\.\.)(\d+)", word)
    if span and int(span[1]) < int(span[2]) <= int(span[1]) + 1000:
        numbers = " ".join(map(str, range(int(span[1]), int(span[2]) + 1)))
    elif re.fullmatch(r"[^,\s]+(,[^,\s]+)+", word):
        numbers = word.replace(",", " ")
    else:
        return ""
    return f"; several are words apart, and make a sweep: {numbers}"


def _shown(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, tuple) else "none" if value is None else str(value)
