"""The sources of weights by name, and which of them, and which network, the arrays of a file are."""

from typing import Any, NamedTuple

from classicnets.models import fields_of
from classicnets.system.fields import require_choice
from classicnets.weights.convert import Arrays, Fit, Imported, Source, variables
from classicnets.weights.tables import caffe, cifar, keras, slim, tensorflow_vgg, timm, torchvision

SOURCES: dict[str, Source] = {
    table.name: table
    for table in (
        torchvision.SOURCE,
        timm.SOURCE,
        keras.SOURCE,
        slim.SOURCE,
        tensorflow_vgg.SOURCE,
        caffe.SOURCE,
        cifar.AKAMASTER,
        cifar.LASAGNE,
    )
}
# Released files by the first eight digits of their SHA-256, which those of PyTorch bear in their names.
KNOWN = {
    "torchvision": "7be5be79 8a719046 6002323d 19584684 abd245e5 397923af 6c64b313 dcbb9e9d c79401a0 1378be20 0cc3c7bd "
    "f37072fd b627a593 0676ba61 11ad3fa6 63fe2227 cd907fc2 394f9c45 f82ba261 95faca4d 9ba9bcbe 32ee1156 d733dc28",
    "akamaster": "12fca82f d509ac18",
    "lasagne": "536662d9",
}


class Recognised(NamedTuple):
    """What the arrays of a file are: their source, and the network here that they are the weights of, imported."""

    source: Source
    name: str
    fields: dict[str, Any]
    imported: Imported


def recognise(
    arrays: Arrays, sha256: str, source: str | None = None, model: str | None = None, **fields: Any
) -> Recognised:
    """Return the source and the network of arrays.

    sha256: of the file; source, model, fields: what the caller knows. Raise ValueError, in one sentence that lists what
    fits, where names and shapes do not tell, or nothing fits.
    """
    if source is not None:
        require_choice("source", source, tuple(SOURCES))
    if model is not None:
        fields_of(model)  # which raises with the nearest name
    known = next((known for known, digests in KNOWN.items() if sha256[:8] in digests.split()), None)
    told_source, source = source, source or known
    tables = [SOURCES[source]] if source else list(SOURCES.values())
    guesses = [(table, fit) for table in tables for fit in _guesses(table, arrays) if model in (None, fit.name)]
    if source and model and not guesses:
        guesses = [(tables[0], Fit(model, {}))]
    if known and known == source and model is None:  # its own network, and not another of equal arrays
        guesses = guesses[:1]
    whole, reason, tried = [], None, []
    for table, fit in guesses:
        told = {**fit.fields, **fields}
        if (table, fit.name, told) in tried:  # which differed in what the caller told
            continue
        tried.append((table, fit.name, told))
        try:
            whole.append(Recognised(table, fit.name, told, variables(table, fit.name, arrays, **told)))
        except ValueError as error:
            reason = error
    sure = known or told_source or not any(one.source.shared for one in whole)
    if len(whole) == 1 and sure:
        return whole[0]
    if whole:
        choices = "; ".join(f"--source {one.source.name} --model {_call(one)}" for one in whole)
        raise ValueError(f"names and shapes do not tell which network this is: choose one of {choices}")
    if len(tried) == 1 and reason:
        raise reason
    named = f" of {source}" if source else ""
    first = ", ".join(repr(key) for key in list(arrays)[:3])
    raise ValueError(
        f"these {len(arrays)} arrays ({first}, ...) are those of no network{named}"
        f"{f' called {model}' if model else ''} that is read here; 'classicnets models' says which are"
    )


def _guesses(table: Source, arrays: Arrays) -> list[Fit]:
    """Return the networks that arrays could be, none where an array has too few axes for what its name says."""
    try:
        return table.guess(arrays)
    except (IndexError, TypeError, KeyError, ZeroDivisionError):
        return []


def _call(fit: Recognised) -> str:
    shown = {key: value for key, value in fit.fields.items() if key in ("depth", "shortcut")}
    return fit.name + "".join(f" --{key} {value}" for key, value in shown.items())


def sources_of(name: str) -> list[str]:
    """Return the names of the sources from which weights of the network `name` are read."""
    return [source.name for source in SOURCES.values() if source.has(name)]
