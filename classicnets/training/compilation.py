"""Compiled programs kept between processes."""

import os
from pathlib import Path


def use_cache() -> None:
    """Keep compiled programs in `$XDG_CACHE_HOME/classicnets/jax` unless JAX_COMPILATION_CACHE_DIR names another place.

    A damaged entry only warns and is compiled again; the folder can be deleted at any time.
    """
    import jax

    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        caches = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(caches) / "classicnets" / "jax"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
