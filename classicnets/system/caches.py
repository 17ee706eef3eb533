"""Compiled programs kept between processes."""

import os
import re
import warnings
import zlib
from pathlib import Path

# How jax begins its warning of an entry that it cannot read; it compiles the program again, and leaves the entry.
DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")


def use_cache() -> None:
    """Keep compiled programs in `$XDG_CACHE_HOME/classicnets/jax` unless JAX_COMPILATION_CACHE_DIR names another place.

    A damaged entry is told once, removed and compiled again; the folder can be deleted at any time.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "classicnets" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    show = warnings.showwarning

    def showwarning(message, *place, **more):
        program = DAMAGED.search(str(message))
        folder = jax.config.values["jax_compilation_cache_dir"]
        if program and folder:
            # Before the program is compiled and put there again, which jax does only where there is nothing.
            remove_damaged(Path(folder), program[1])
            message = f"a damaged entry of the compilation cache ({program[1]}) is replaced"
        show(message, *place, **more)

    warnings.showwarning = showwarning


def remove_damaged(folder: Path, program: str) -> None:
    """Remove the entries of `program` that do not decompress; all of its entries where none is seen to be damaged."""
    entries = [path for path in folder.iterdir() if path.name.startswith(program)]
    for path in [path for path in entries if _is_damaged(path)] or entries:
        path.unlink(missing_ok=True)


def _is_damaged(path: Path) -> bool:
    """Return whether an entry is neither whole zlib data nor begins as Zstandard's, jax's two kinds."""
    content = path.read_bytes()
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        return False
    try:
        zlib.decompress(content)
    except zlib.error:
        return path.name.endswith("-cache")
    return False
