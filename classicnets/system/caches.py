"""Where caches lie, and compiled programs kept between processes."""

import os
import re
import warnings
import zlib
from pathlib import Path
from typing import Any

# How jax begins its warning of an entry that it cannot read; it compiles the program again, and leaves the entry.
DAMAGED = re.compile(r"Error reading persistent compilation cache entry for '([^']+)'")


def folder() -> Path:
    """Return the folder of this package's caches, `$XDG_CACHE_HOME/classicnets` or `~/.cache/classicnets`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "classicnets"


def use_cache() -> None:
    """Keep compiled programs in `folder()`/jax unless JAX_COMPILATION_CACHE_DIR names another place.

    A damaged entry is told once, removed and compiled again; the folder can be deleted at any time.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", str(folder() / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    show = warnings.showwarning

    def showwarning(message: Warning | str, *place: Any, **more: Any) -> None:
        program = DAMAGED.search(str(message))
        kept_in = jax.config.values["jax_compilation_cache_dir"]
        if program and kept_in:
            # Before the program is compiled and put there again, which jax does only where there is nothing.
            remove_damaged(Path(kept_in), program[1])
            message = f"a damaged entry of the compilation cache ({program[1]}) is replaced"
        show(message, *place, **more)

    warnings.showwarning = showwarning


def remove_damaged(cache: Path, program: str) -> None:
    """Remove the entries of `program` that do not decompress; all of its entries where none is seen to be damaged."""
    entries = [path for path in cache.iterdir() if path.name.startswith(program)]
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
