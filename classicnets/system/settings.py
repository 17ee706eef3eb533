"""What of a process, beside the program and its inputs, can change a run's numbers.

PINNED settings of jax have one value around everything that a run computes, whatever the process has. FLAGS of XLA are
set in any process whose backend has not started. IDENTIFYING settings, with XLA_FLAGS and the like, are part of a run's
name where they differ from the default. The rest, versions, processor and cores, is its environment, recorded a segment
(`system.environment`).
The only file that reads jax's own settings.
"""

import contextlib
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any

# Those that this jax does not have are passed over.
PINNED: dict[str, object] = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_threefry_gpu_kernel_lowering": False,
    "jax_random_seed_offset": 0,
    "jax_enable_custom_prng": False,
    "jax_high_dynamic_range_gumbel": False,
    "jax_enable_x64": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_matmul_precision": None,
    "jax_allow_f16_reductions": True,
    "jax_softmax_custom_jvp": False,
    "jax_use_direct_linearize": True,
    "jax_scan3": False,
    "jax_remat3": False,
    "jax_custom_vjp3": False,
    "jax_custom_jvp3": False,
    "jax_accurate_erf_inv": False,
    "jax_use_hlo_logistic_lowering": None,
    "jax_remat_barrier_no_cotangents": False,
    "eager_constant_folding": False,
    "jax_disable_jit": False,
    "jax_debug_key_reuse": False,
    "jax_check_tracer_leaks": False,
    # A value that is not finite ends a run as diverged; these would end it as failed.
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
}
IDENTIFYING: dict[str, object] = {
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_compiler_enable_remat_pass": True,
    "jax_enable_pgle": False,
    "jax_use_shardy_partitioner": True,
}
# XLA's flags: (the value that runs are computed with, the one that stands for XLA's own default). By default a
# convolution on a CPU is YNNPACK's, which is slower than Eigen's; other products and sums are faster with it, and stay.
FLAGS = {
    "xla_cpu_experimental_ynn_fusion_type": (
        "-LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION",
        "+LIBRARY_FUSION_TYPE_INDIVIDUAL_CONVOLUTION",
    )
}
# XLA's flags that say how many devices there are, or what is written down of a compilation.
HARMLESS_FLAGS = ("xla_force_host_platform_device_count", "xla_dump_", "xla_gpu_dump_", "xla_gpu_cuda_data_dir")
# Other variables that a backend reads.
VARIABLES = ("LIBTPU_INIT_ARGS", "NVIDIA_TF32_OVERRIDE")

_reference = ContextVar("reference", default=False)
# The process's own values of the PINNED settings, while they are held.
_own: ContextVar[dict[str, object] | None] = ContextVar("own", default=None)


@contextlib.contextmanager
def pinned() -> Iterator[None]:
    """Hold every PINNED setting, in this thread, until the block or the decorated function ends."""
    xla_flags()
    with contextlib.ExitStack() as stack:
        if _own.get() is None:
            stack.callback(_own.reset, _own.set(_current(PINNED)))
        for name, value in PINNED.items():
            if (setting := _settings().get(name)) is not None:
                stack.enter_context(setting(value))
        stack.enter_context(_transfers_allowed())
        yield


@contextlib.contextmanager
def reference_execution() -> Iterator[None]:
    """Trace layers as on any backend, whatever their execution options: for a program that is named, not run."""
    token = _reference.set(True)
    try:
        yield
    finally:
        _reference.reset(token)


def in_reference_execution() -> bool:
    """Return whether what is traced now is named, not run."""
    return _reference.get()


def identifying() -> dict[str, object]:
    """Return the IDENTIFYING settings, XLA flags and variables that are not the default: {} in most processes."""
    settings = {name: plain for name, plain in _current(IDENTIFYING).items() if plain != IDENTIFYING[name]}
    flags = [
        f"{name}={value}"
        for name, value in xla_flags().items()
        if not name.startswith(HARMLESS_FLAGS) and value != FLAGS.get(name, (None,))[0]
    ]
    variables = {name: value for name in VARIABLES if (value := os.environ.get(name))}
    return {**settings, **({"xla_flags": flags} if flags else {}), **variables}


def recorded() -> dict[str, object]:
    """Return every setting of the process that is not the default, pinned ones too, for a run's environment."""
    own = _current(PINNED) if (held := _own.get()) is None else held
    return {**{name: plain for name, plain in own.items() if plain != PINNED[name]}, **identifying()}


def complete_flags() -> None:
    """Add to XLA_FLAGS, for this process and those that it starts, each of FLAGS that is not there.

    XLA reads them when the first backend starts. Where one has started without a flag, as in a notebook that used jax
    before it imported classicnets, what is added is the value of XLA's default: the processes started from here compute
    as this one does, and their runs have its name.
    """
    text, given = _flags_text(), _flags()
    missing = [f"--{name}={values[_backend_started()]}" for name, values in FLAGS.items() if name not in given]
    if missing:
        os.environ["XLA_FLAGS"] = " ".join([text, *missing]).strip()


@cache
def xla_flags() -> dict[str, str]:
    """Return the XLA flags by name, completed, as they were when this was first called: XLA reads them once a process.

    Of a flag that is given twice the last counts; XLA_FLAGS that begin with no dash name a file that holds them.
    """
    complete_flags()
    return _flags()


def _flags() -> dict[str, str]:
    pairs = [word.lstrip("-").partition("=") for word in shlex.split(_flags_text())]
    return {name: value or "true" for name, _, value in sorted(pairs)}


def _flags_text() -> str:
    text = os.environ.get("XLA_FLAGS", "").strip()
    if text and not text.startswith("-"):
        with contextlib.suppress(OSError):
            text = Path(text).read_text(encoding="utf-8")
    return text


def _backend_started() -> bool:
    if "jax" not in sys.modules:
        return False
    from jax._src import xla_bridge

    return xla_bridge.backends_are_initialized()


def _current(table: dict[str, object]) -> dict[str, object]:
    """Return the process's values of the settings in `table`, as JSON takes them."""
    values = {name: setting.value for name in table if (setting := _settings().get(name)) is not None}
    return {name: _plain(value) for name, value in values.items()}


def _plain(value: Any) -> object:
    enum = getattr(value, "value", None)
    if value is None or isinstance(value, bool | int | float | str):
        return str(value) if isinstance(value, str) else value
    return enum if isinstance(enum, str | int) else str(value)


def _transfers_allowed() -> AbstractContextManager:
    """Let data and results go between host and device, which a guard of the process would end with a traceback."""
    import jax

    return jax.transfer_guard("allow")


def _settings() -> dict:
    from jax._src import config

    return config.config._value_holders
