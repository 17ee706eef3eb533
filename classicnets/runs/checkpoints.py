"""Orbax checkpoints, one directory a step. The only file that names Orbax.

A step is written under a temporary name with a SHA-256 manifest, and renamed when all of it is on disk;
deletion renames first. So a listed step is whole whenever the process is killed. Orbax restores flipped
bits silently: the manifest is checked before a restore, and the newest good step is used.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
import shutil
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from classicnets.runs.renamed import renamed
from classicnets.system.writing import require_space, writing

MANIFEST = "manifest.json"
# Bytes of a checkpoint beside its arrays: names, shapes, and files that fill blocks.
OVERHEAD = 2**18


class NotFinite(Exception):
    """A tensor that was to be saved is not finite; its name."""


def steps(root: Path) -> list[int]:
    """Return the steps that are listed, oldest first."""
    return sorted(int(path.name) for path in root.glob("[0-9]*") if path.name.isdigit()) if root.exists() else []


def size(state: Any) -> int:
    """Return the bytes of a tree of arrays or of their shapes."""
    return sum(np.dtype(leaf.dtype).itemsize * int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state))


def save(root: Path, step: int, state: Any, keep: int = 2, kept: Collection[int] = ()) -> None:
    """Write `state`, a tree of arrays, as `step`; then delete all but the newest `keep` steps and those of `kept`.

    Raise FileExistsError for a step that is not newer than all that are listed, NotFinite for a value that is not,
    and WriteFailed, when what was written of it has been removed, if it does not get on disk.
    """
    arrays = jax.tree.map(np.asarray, state)
    for path, leaf in jax.tree_util.tree_leaves_with_path(arrays):
        if not np.isfinite(leaf).all():
            raise NotFinite(jax.tree_util.keystr(path, simple=True, separator="/"))
    newest = max(steps(root), default=-1)
    if step <= newest:
        raise FileExistsError(f"checkpoint {root / str(step)} would not be newer than {newest}")
    temporary = root.absolute() / f"tmp-{step}"
    require_space(root / str(step), size(arrays) + OVERHEAD)
    with writing(root / str(step), size(arrays), temporary):
        root.mkdir(exist_ok=True)
        with _quiet(), _checkpointer() as checkpointer:
            checkpointer.save(temporary / "state", arrays)
        (temporary / MANIFEST).write_text(json.dumps(_manifest(_digests(temporary)), indent=1), encoding="utf-8")
        for path in temporary.rglob("*"):
            _sync(path)
        _sync(temporary)
        temporary.rename(root / str(step))
        _sync(root)
    for old in steps(root)[:-keep]:
        if old not in kept:
            trash = root / f"trash-{old}"
            (root / str(old)).rename(trash)
            shutil.rmtree(trash)


def clean(root: Path) -> None:
    """Remove what a killed save or deletion left."""
    for pattern in ("tmp-*", "trash-*"):
        for path in root.glob(pattern):
            shutil.rmtree(path)


def damage(root: Path, step: int) -> str | None:
    """Return the first file of `step` that differs from its manifest, None if all are good."""
    path = root / str(step)
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        expected = manifest["files"]
        if manifest != _manifest(expected):
            return MANIFEST
    except (OSError, ValueError, KeyError, TypeError):
        return MANIFEST
    found = _digests(path)
    return next((name for name in sorted(expected | found) if expected.get(name) != found.get(name)), None)


def newest_good(root: Path) -> int | None:
    """Return the newest step whose files equal its manifest."""
    return next((step for step in reversed(steps(root)) if damage(root, step) is None), None)


def restore(root: Path, step: int, abstract_state: Any) -> Any:
    """Return the state of `step`, in the shapes and types of `abstract_state`."""
    with _checkpointer() as checkpointer:
        return checkpointer.restore(root.absolute() / str(step) / "state", abstract_state)


def variables(root: Path, step: int) -> dict:
    """Return {"params", "batch_stats"} of `step` as they were saved."""
    with _checkpointer() as checkpointer:
        saved = checkpointer.restore(root.absolute() / str(step) / "state")
    return {"params": saved["params"], "batch_stats": saved.get("batch_stats") or {}}


def restore_variables(root: Path, step: int, params: Any, batch_stats: Any) -> tuple[Any, Any]:
    """Return (params, batch_stats) of `step`, an earlier version's under the names that they have now.

    Raise ValueError naming the first leaf that is not of the given trees' shapes.
    """
    saved, restored = variables(root, step), []
    for wanted, tree in ((params, saved["params"]), (batch_stats, saved["batch_stats"])):
        restored.append(renamed(tree, wanted))
        shapes = [
            {jax.tree_util.keystr(p): x.shape for p, x in jax.tree_util.tree_leaves_with_path(t)}
            for t in (wanted, restored[-1])
        ]
        for name in sorted(shapes[0] | shapes[1]):
            if shapes[0].get(name) != shapes[1].get(name):
                raise ValueError(
                    f"{name} has shape {shapes[1].get(name)} in the checkpoint, {shapes[0].get(name)} here"
                )
    return restored[0], restored[1]


def restore_newest(root: Path, abstract_state: Any) -> tuple[int | None, Any, dict[int, str]]:
    """Return (step, state, skipped): the newest good step, or (None, None, skipped).

    skipped: {step: damaged file}; those steps are set aside as `damaged-<step>`, so that they can be saved again.
    """
    skipped = {}
    for step in reversed(steps(root)):
        bad = damage(root, step)
        if bad is None:
            return step, restore(root, step, abstract_state), skipped
        skipped[step] = bad
        aside = root / f"damaged-{step}"
        if aside.exists():
            shutil.rmtree(aside)
        (root / str(step)).rename(aside)
    return None, None, skipped


def manifest_sha256(root: Path, step: int) -> str:
    """Return SHA-256 of the manifest of `step`, which names all that it holds."""
    return hashlib.sha256((root / str(step) / MANIFEST).read_bytes()).hexdigest()


def parameters_sha256(params: Any) -> str:
    """Return SHA-256 over every parameter's path, type, shape and bytes, in the order of the paths."""
    digest = hashlib.sha256()
    for path, leaf in sorted(
        jax.tree_util.tree_leaves_with_path(params), key=lambda item: jax.tree_util.keystr(item[0])
    ):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence Orbax, whose threads print tracebacks beside what a failed save raises, and write on for a moment."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            yield
        except Exception:
            time.sleep(1)
            raise
        finally:
            logger.setLevel(level)


def _checkpointer() -> ocp.StandardCheckpointer:
    """For one process alone: of several, process 0 holds the run, and the others do not wait for its files."""
    alone = ocp.options.MultiprocessingOptions(
        primary_host=jax.process_index(), active_processes={jax.process_index()}, barrier_sync_key_prefix="alone"
    )
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _digests(path: Path) -> dict[str, str]:
    files = sorted(p for p in path.rglob("*") if p.is_file() and p.name != MANIFEST)
    return {str(p.relative_to(path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def _manifest(files: dict[str, str]) -> dict:
    """The SHA-256 of each file, and that of all of these, so that a flipped bit here does not accuse a file."""
    return {"files": files, "sha256": hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()}


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
