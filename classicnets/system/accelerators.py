"""The accelerators of this machine, found without jax: one that has looked holds their memory."""

import importlib.util
import itertools
import os
import pkgutil
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from classicnets.system.cores import available

MISSING = "JAX_PLATFORMS is {!r}, and jax has no such device here: choose cpu, or leave it unset"


def platforms() -> str:
    """Return what JAX_PLATFORMS asks for, "" if it is not set."""
    return os.environ.get("JAX_PLATFORMS", "")


def there_are() -> bool:
    """Return whether jax has a device in this process; without JAX_PLATFORMS it always has one."""
    if not platforms():
        return True
    import jax

    try:
        return bool(jax.devices())
    except (RuntimeError, AssertionError):  # jax's own, where the first of several attempts failed
        return False


def require() -> None:
    """Raise ValueError if a process that this one starts would find no device.

    Another process looks, since one that has looked holds an accelerator's memory.
    """
    if platforms() and "cpu" not in platforms().split(","):
        looked = subprocess.run([sys.executable, "-c", "import jax; jax.devices()"], capture_output=True, check=False)
        if looked.returncode:
            raise ValueError(MISSING.format(platforms()))


def visible(dev: Path = Path("/dev")) -> list[dict[str, str]]:
    """Return the environment in which a process sees one accelerator alone, for each that this one may use.

    Empty where jax computes on the CPU: JAX_PLATFORMS says so, or neither its CUDA plugin nor libtpu is installed.
    CUDA_VISIBLE_DEVICES, or TPU_VISIBLE_CHIPS, name those that this process may use; otherwise they are counted in
    /dev. Without the bounds, a process that sees one TPU chip still locks all of them (the environment is
    that of jax's own tests with several processes, jax/_src/test_multiprocess.py).
    """
    platforms = set(os.environ.get("JAX_PLATFORMS", "").split(",")) - {""}
    if platforms and not platforms & {"cuda", "gpu", "tpu"}:
        return []
    gpus = _named("CUDA_VISIBLE_DEVICES", dev.glob("nvidia[0-9]*")) if _has_cuda() else []
    if gpus or importlib.util.find_spec("libtpu") is None:
        return [{"CUDA_VISIBLE_DEVICES": gpu} for gpu in gpus]
    chips = _named("TPU_VISIBLE_CHIPS", [*dev.glob("accel[0-9]*"), *dev.glob("vfio/[0-9]*")])
    return [
        {
            "TPU_VISIBLE_CHIPS": chip,
            "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_BOUNDS": "1,1,1",
            "TPU_PROCESS_ADDRESSES": f"localhost:{8476 + number}",
            "TPU_PROCESS_PORT": str(8476 + number),
            "CLOUD_TPU_TASK_ID": "0",
            "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        }
        for number, chip in enumerate(chips)
    ]


def at_once(cores: int, engine: str = "local") -> int:
    """Return how many workers on `cores` cores this machine has room for: local ones, one for each accelerator."""
    room = available() // max(1, cores)
    return max(1, min(room, len(visible()) or room) if engine == "local" else room)


def _has_cuda() -> bool:
    """Whether jax would find its plugin for CUDA, which it looks for in this namespace."""
    spec = importlib.util.find_spec("jax_plugins")
    places = (spec.submodule_search_locations if spec else None) or []
    return any("cuda" in module.name for module in pkgutil.iter_modules(list(places)))


def _named(variable: str, files: Iterable[Path]) -> list[str]:
    """The devices that an environment variable names, by their numbers in /dev if it is not set."""
    if variable in os.environ:
        names = [name.strip() for name in os.environ[variable].split(",")]
        return list(itertools.takewhile(lambda name: name not in ("", "-1", "NoDevFiles"), names))
    return sorted((re.sub("[^0-9]", "", file.name) for file in files), key=int)
