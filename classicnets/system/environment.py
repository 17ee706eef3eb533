"""Under what a run was computed."""

import hashlib
import os
import platform
import resource
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import classicnets
from classicnets.system import settings

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")


def environment() -> dict:
    """Versions, processor, devices, cores, XLA flags, commit, dirty or not, and a digest of the sources."""
    import jax

    return {
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "classicnets": classicnets.__version__,
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
        "platform": platform.platform(),
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "devices": [device.device_kind for device in jax.devices()],
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "settings": settings.recorded(),
        "commit": _git("rev-parse", "HEAD"),
        **_uncommitted(),
        "sources_sha256": sources_sha256(),
    }


def differences(before: dict, after: dict) -> list[str]:
    """What differs between two segments of a run and can change its bits, each as "cores 2 -> 4"."""
    found = []
    # Only packs say how many trained together, and earlier versions told no settings.
    before, after = ({"packed": 1, "settings": {}, **segment} for segment in (before, after))
    for key in (
        "python",
        "platform",
        "processor",
        "cores",
        "devices",
        "xla_flags",
        "settings",
        "resolved",
        "packed",
        "sources_sha256",
    ):
        if before.get(key) != after.get(key):
            old, new = (str(segment.get(key))[: 12 if key.endswith("sha256") else 60] for segment in (before, after))
            found.append(f"{key} {old} -> {new}")
    old, new = before.get("versions", {}), after.get("versions", {})
    return found + [f"{name} {old.get(name)} -> {new.get(name)}" for name in PACKAGES if old.get(name) != new.get(name)]


def peak_resident_bytes() -> int:
    """Return the most bytes of this process that were in memory at once."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def processor() -> str:
    """The model of the CPU and, since a virtual one hides it, a digest of the instructions that it has.

    XLA compiles for these, so that runs of one program have other bits on other CPUs.
    """
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", facts.get("Features", ""))
    return f"{facts.get('model name', platform.machine())} {hashlib.sha256(flags.encode()).hexdigest()[:8]}"


def sources_sha256() -> str:
    """SHA-256 over the package's Python files."""
    root = Path(classicnets.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def _uncommitted() -> dict:
    """The changes of Python files since the commit, with those that git does not track, and their SHA-256.

    Nothing is known where there is no git or it does not answer: {"uncommitted_sha256": "unknown"} then.
    """
    diff = _git("diff", "HEAD", "--", "*.py")
    new = _git("ls-files", "--others", "--exclude-standard", "--", "*.py")
    if diff is None or new is None:
        return {"uncommitted_sha256": "unknown"}
    if not diff and not new:
        return {"uncommitted_sha256": None}
    root = Path(classicnets.__file__).parent.parent
    untracked = [f"+++ {name}\n{(root / name).read_text(errors='replace')}" for name in new.splitlines()]
    text = "\n".join([diff, *untracked])
    return {"uncommitted_sha256": hashlib.sha256(text.encode()).hexdigest(), "uncommitted_diff": text}


def _git(*arguments: str) -> str | None:
    """What git prints, None if it fails or is not there."""
    root = Path(classicnets.__file__).parent.parent
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None
