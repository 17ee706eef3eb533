"""Conditions on the fields of a run, such as "depth>=32 and shortcut=='none'": parsed, never executed."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

Meaning = Callable[[Mapping], Any]


def _within(value: Any, several: Any) -> bool:
    """Return whether `several`, which may be a word, has `value` in it."""
    if several is None or (value is None and isinstance(several, str)):
        return False
    return value in several


COMPARISONS: dict[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: _within,
    ast.NotIn: lambda value, several: not _within(value, several),
}
LONGEST = 1000
LANGUAGE = "it compares fields, numbers and quoted words by == != < <= > >= in, joined by and, or, not"


def condition(text: str) -> tuple[Callable[[Mapping], bool], set[str]]:
    """Return (whether a row meets the condition, the fields that it names).

    A field that a row lacks is None, and None is neither more nor less than anything, and has nothing in it. Raise
    ValueError for what is not in the language, and, when a row is looked at, for numbers compared with words.
    """
    if len(text) > LONGEST:
        raise ValueError(f"where is up to {LONGEST} characters long, got {len(text):,}")
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        tree = ast.Pass()
    fields: set[str] = set()

    def compiled(node: ast.AST) -> Meaning:
        match node:
            case ast.BoolOp(op=op, values=values):
                parts, joined = [compiled(value) for value in values], all if isinstance(op, ast.And) else any
                return lambda row: joined(part(row) for part in parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                part = compiled(operand)
                return lambda row: not part(row)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return lambda row: -number
            case ast.Compare(left=left, ops=ops, comparators=others) if all(type(op) in COMPARISONS for op in ops):
                terms = [compiled(term) for term in (left, *others)]
                links = [(COMPARISONS[type(op)], terms[i], terms[i + 1]) for i, op in enumerate(ops)]
                return lambda row: all(_compare(compare, a(row), b(row), text) for compare, a, b in links)
            case ast.Name(id=name):
                fields.add(name)
                return lambda row: row.get(name)
            case ast.Constant(value=None | str() | int() | float() as value):
                return lambda row: value
            case ast.Tuple(elts=elements) | ast.List(elts=elements):
                parts = [compiled(element) for element in elements]
                return lambda row: [part(row) for part in parts]
        raise ValueError(f"where cannot be read: {text[:80]!r}; {LANGUAGE}")

    meaning = compiled(tree)
    return (lambda row: bool(meaning(row))), fields


def _compare(compare: Callable[[Any, Any], bool], value: Any, other: Any, text: str) -> bool:
    ordering = compare in (operator.lt, operator.le, operator.gt, operator.ge)
    if ordering and (value is None or other is None):
        return False
    try:
        return compare(value, other)
    except TypeError:
        raise ValueError(f"where compares {value!r} with {other!r}: {text[:80]!r}") from None
