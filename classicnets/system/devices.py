"""Whether jax has the devices that JAX_PLATFORMS asks for."""

import os
import subprocess
import sys

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
