"""Names that were misspelled, and the ends of sentences that say so."""

import difflib
from collections.abc import Iterable

# Of difflib's ratio: below it a "nearest" name is of another thing.
NEAR = 0.75


def near(word: str, choices: Iterable[str]) -> str | None:
    """Return the choice that `word` must have meant, None if none is near; case, - and _ make no difference.

    The first letter is seldom mistyped: lenet is no misspelt alexnet.
    """
    plain = {_plain(choice): choice for choice in choices}
    plain = {name: choice for name, choice in plain.items() if name[:1] == _plain(word)[:1]}
    match = difflib.get_close_matches(_plain(word), plain, n=1, cutoff=NEAR)
    return plain[match[0]] if match else None


def nearest(word: str, choices: Iterable[str], otherwise: str | None = None) -> str:
    """Return the end of a sentence: the choice near `word`, or `otherwise`, by default all of them."""
    choices = list(choices)
    if match := near(word, choices):
        return f"; the nearest is {match!r}"
    return f"; choose from {', '.join(sorted(choices))}" if otherwise is None else f"; {otherwise}"


def _plain(word: str) -> str:
    return str(word).lower().replace("-", "").replace("_", "")
