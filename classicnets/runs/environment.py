"""Under what a run was computed."""

import hashlib
import os
import platform
import subprocess
import time
from importlib.metadata import version
from pathlib import Path

import classicnets

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict:
    """Versions, devices, cores, XLA flags, commit, dirty or not, and a digest of the sources."""
    import jax

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classicnets": classicnets.__version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "commit": _git("rev-parse", "HEAD"),
        "uncommitted_sha256": _uncommitted(),
        "sources_sha256": sources_sha256(),
    }


def sources_sha256() -> str:
    """SHA-256 over the package's Python files."""
    root = Path(classicnets.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _uncommitted() -> str | None:
    """SHA-256 over the changes of Python files since the commit and over those that git does not track."""
    diff = _git("diff", "HEAD", "--", "*.py")
    new = _git("ls-files", "--others", "--exclude-standard", "--", "*.py")
    if not diff and not new:
        return None
    root = Path(classicnets.__file__).parent.parent
    digest = hashlib.sha256((diff or "").encode())
    for name in (new or "").splitlines():
        digest.update(name.encode() + b"\0" + (root / name).read_bytes())
    return digest.hexdigest()


def _git(*arguments: str) -> str | None:
    root = Path(classicnets.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else None
