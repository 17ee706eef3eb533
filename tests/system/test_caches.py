"""The compilation cache."""

import jax
import jax.numpy as jnp
import pytest

from classicnets.system import caches


@pytest.mark.filterwarnings("default:Error reading persistent compilation cache entry")
@pytest.mark.parametrize("how", ["cut", "empty", "flipped", "garbage"])
def test_a_damaged_entry_of_the_compilation_cache_is_replaced_once(tmp_path, monkeypatch, how):
    said = []
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(caches.warnings, "showwarning", lambda message, *_: said.append(str(message)))
    before = jax.config.values["jax_compilation_cache_dir"]
    from jax.experimental.compilation_cache import compilation_cache

    def computed() -> float:
        compilation_cache.reset_cache()
        jax.clear_caches()

        @jax.jit
        def of_one_name(x):
            return jnp.sin(x) * 3 + len(how)

        return float(of_one_name(1.0))

    try:
        jax.config.update("jax_compilation_cache_dir", str(tmp_path))
        caches.use_cache()
        value = computed()
        (entry,) = tmp_path.glob("jit_of_one_name-*-cache")
        content = entry.read_bytes()
        flipped = bytes([*content[:200], content[200] ^ 4, *content[201:]])
        entry.write_bytes({"cut": content[:50], "empty": b"", "flipped": flipped, "garbage": b"x" * 99}[how])
        assert [computed(), computed()] == [value, value]
    finally:
        compilation_cache.reset_cache()
        jax.config.update("jax_compilation_cache_dir", before)
    assert said == ["a damaged entry of the compilation cache (jit_of_one_name) is replaced"]
    assert entry.read_bytes()[:2] == content[:2]
