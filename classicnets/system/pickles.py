"""Pickles of strangers, of which nothing is executed: containers, words, numbers and NumPy's arrays.

Python's own unpickler, restricted as it may be, hands a damaged state to NumPy, which can crash on it, and takes memory
for what a few bytes claim. This one is a stack machine over `pickletools.genops`, which only parses: it knows the
opcodes of containers, words and numbers, and calls what `find` gives for a name, functions of ours alone.
"""

import math
import pickletools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

Find = Callable[[str, str], Any]
PUSHED = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("STRING", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8"),
}
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
SIZED_TUPLES = {"EMPTY_TUPLE": 0, "TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
KEYS = (str, int, float, bytes, type(None))
MARK = object()


def load(data: bytes) -> Any:
    """Return what a pickle of NumPy 1 or 2 and of Python 2 or 3 holds; bytes of Python 2 become words in latin1.

    An array of one Python object is that object. Raise ValueError if it asks for anything but arrays and containers, or
    is no pickle.
    """
    return _resolved(run(data, _find), {})


def run(data: bytes, find: Find, persistent: Callable[[Any], Any] | None = None) -> Any:
    """Return what a pickle builds; raise ValueError for an opcode that builds anything but containers and words.

    find: of a module and a name what stands for it, and is called where it is a function; raises ValueError for what is
    unknown. persistent: of what lies outside; None where nothing does.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return stack.pop()
            _step(opcode.name, argument, stack, memo, find, persistent)
    except (IndexError, KeyError, TypeError, OverflowError, AttributeError) as error:
        raise ValueError(f"a pickle that is damaged ({type(error).__name__})") from None
    raise ValueError("a pickle that does not end")


def _step(
    name: str, argument: Any, stack: list[Any], memo: dict[int, Any], find: Find, persistent: Callable | None
) -> None:
    if name in PUSHED:
        stack.append(argument)
    elif name in CONSTANTS:
        stack.append(CONSTANTS[name])
    elif name in SIZED_TUPLES:
        size = SIZED_TUPLES[name]
        parts = [stack.pop() for _ in range(size)]
        stack.append(tuple(reversed(parts)))
    elif name == "TUPLE":
        stack.append(tuple(_marked(stack)))
    elif name in ("EMPTY_LIST", "EMPTY_DICT"):
        stack.append([] if name == "EMPTY_LIST" else {})
    elif name == "LIST":
        stack.append(_marked(stack))
    elif name == "DICT":
        items = _marked(stack)
        stack.append(_filled({}, items))
    elif name in ("APPEND", "APPENDS"):
        items = [stack.pop()] if name == "APPEND" else _marked(stack)
        _kind(stack[-1], list).extend(items)
    elif name in ("SETITEM", "SETITEMS"):
        items = [stack.pop(-2), stack.pop()] if name == "SETITEM" else _marked(stack)
        _filled(_kind(stack[-1], dict), items)
    elif name == "MARK":
        stack.append(MARK)
    elif name == "POP":
        stack.pop()
    elif name == "POP_MARK":
        _marked(stack)
    elif name in ("PUT", "BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name == "MEMOIZE":
        memo[len(memo)] = stack[-1]
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "GLOBAL":
        module, _, word = argument.partition(" ")
        stack.append(find(module, word))
    elif name == "STACK_GLOBAL":
        word, module = stack.pop(), stack.pop()
        stack.append(find(_kind(module, str), _kind(word, str)))
    elif name == "REDUCE":
        arguments, function = _kind(stack.pop(), tuple), stack.pop()
        if not callable(function):
            raise ValueError("it calls what is no function")
        stack.append(function(*arguments))
    elif name == "BUILD":
        state = stack.pop()
        if isinstance(stack[-1], _Dtype | _Array):
            stack[-1].build(state)
        elif not isinstance(stack[-1], dict):  # attributes of an ordered dictionary are left out
            raise ValueError(f"it sets the state of a {type(stack[-1]).__name__}")
    elif name == "BINPERSID" and persistent:
        stack.append(persistent(stack.pop()))
    elif name not in ("PROTO", "FRAME"):
        raise ValueError(f"it uses {name}")


def _marked(stack: list[Any]) -> list[Any]:
    """Return what lies above the last mark, and take both off the stack."""
    place = len(stack) - 1
    while stack[place] is not MARK:
        place -= 1
        if place < 0:
            raise IndexError
    items = stack[place + 1 :]
    del stack[place:]
    return items


def _filled(held: dict, items: list[Any]) -> dict:
    if len(items) % 2 or any(not isinstance(key, KEYS) for key in items[::2]):
        raise ValueError("keys that are neither words nor numbers")
    held.update(zip(items[::2], items[1::2], strict=True))
    return held


def _kind(value: Any, kind: type) -> Any:
    if not isinstance(value, kind):
        raise TypeError
    return value


def ordered(*items: Any) -> dict:
    """Return what an OrderedDict becomes: a dictionary of pairs in their order."""
    pairs = _kind(items[0], list) if items else []
    return _filled({}, [part for pair in pairs for part in (_kind(pair[0], KEYS), pair[1])])  # pyright: ignore


class _Dtype:
    """NumPy's type of numbers, by its code and byte order."""

    def __init__(self, code: str, *_: Any):
        if not isinstance(code, str) or not re.fullmatch(r"[<>|=]?([fiu][1248]|b1|O8?|S\d{1,4}|U\d{1,4})", code):
            raise ValueError(f"a type of numbers called {str(code)[:20]!r}")
        self.code, self.order = code.lstrip("<>|="), code[0] if code[0] in "<>" else "="

    def build(self, state: Any) -> None:
        if state[1] not in ("<", ">", "|", "="):
            raise ValueError("a type of numbers that is damaged")
        self.order = state[1] if state[1] in ("<", ">") else self.order

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(self.order + self.code)


class _Array:
    """NumPy's array, which is made empty and then filled."""

    def __init__(self, value: Any = None):
        self.value = value

    def build(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        if _kind(kind, _Dtype).code.startswith("O"):
            if shape != () or not isinstance(raw, list) or len(raw) != 1:
                raise ValueError("an array of Python objects")
            self.value = raw[0]
            return
        data = raw.encode("latin1") if isinstance(raw, str) else raw
        self.value = _numbers(data, kind, shape, bool(fortran))


def _numbers(data: Any, kind: Any, shape: Any, fortran: bool) -> np.ndarray:
    dtype = _kind(kind, _Dtype).dtype
    if dtype.hasobject:
        raise ValueError("an array of Python objects")
    sides = _kind(shape, tuple)
    if len(sides) > 32 or any(type(side) is not int or not 0 <= side < 2**48 for side in sides):
        raise ValueError("an array whose shape is damaged")
    if not isinstance(data, bytes | bytearray) or math.prod(sides) * dtype.itemsize != len(data):
        raise ValueError("an array whose numbers are not those of its shape")
    return np.frombuffer(data, dtype).reshape(sides, order="F" if fortran else "C").copy()


def _reconstruct(kind: Any, shape: Any, _: Any) -> _Array:
    """NumPy's own makes an array of any shape; what it pickles is an empty one, which is then filled."""
    if kind != "ndarray" or shape != (0,):
        raise ValueError("an array that is made with a shape")
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise ValueError(f"bytes in the encoding {str(encoding)[:20]!r}")
    return _kind(text, str).encode("latin1")


def _from_buffer(data: Any, kind: Any, shape: Any, order: Any) -> _Array:
    return _Array(_numbers(data, kind, shape, order == "F"))


def _scalar(kind: Any, data: Any) -> _Array:
    raw = data.encode("latin1") if isinstance(data, str) else data
    return _Array(_numbers(raw, kind, (), False))


KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): "ndarray",
    ("numpy", "dtype"): _Dtype,
    ("collections", "OrderedDict"): ordered,
    ("_codecs", "encode"): _encode,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
    **{(f"numpy.{core}.numeric", "_frombuffer"): _from_buffer for core in ("core", "_core")},
}


def _find(module: str, name: str) -> Any:
    if (module, name) not in KNOWN:
        raise ValueError(f"it asks for {module}.{name}")
    return KNOWN[module, name]


def _resolved(value: Any, seen: dict[int, Any]) -> Any:
    """Return the value with arrays in the place of what stood for them, each part once."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, _Array):
        found = _resolved(value.value, seen)
    elif isinstance(value, _Dtype):
        found = value.dtype
    elif isinstance(value, list | tuple):
        found = type(value)(_resolved(part, seen) for part in value)
    elif isinstance(value, dict):
        found = {key: _resolved(part, seen) for key, part in value.items()}
    else:
        return value
    seen[id(value)] = found
    return found
