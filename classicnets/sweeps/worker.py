"""The process that trains tasks: one JSON line each on standard input, one line with the outcome on standard output.

Every engine starts these, on a number of cores of their own, so that the engine cannot change the bits. When standard
input closes early, the one that started it has died: the worker then saves what is finished and ends.
"""

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from classicnets.system import signals

END = "end"


def command(root: Path, cores: int) -> list[str]:
    """What starts a worker."""
    return [sys.executable, "-m", "classicnets.sweeps.worker", str(root), str(cores)]


def environment() -> dict[str, str]:
    """A worker imports what its starter could."""
    path = [part for part in (sys.path[0], os.environ.get("PYTHONPATH")) if part]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(path)}


def cause(code: int, complaint: str) -> str:
    """Why a worker is no more, from its exit status and standard error."""
    said = complaint.strip().splitlines()[-1:]
    how = signal.Signals(-code).name if code < 0 else f"exit status {code}"
    return f"its worker ended by {how}" + (f": {said[0][:300]}" if said else "")


def train_in_process_of_its_own(line: str, root: str, cores: int) -> dict:
    """The outcome of one task, as an engine runs it; RuntimeError if the worker dies, so that it is tried again."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": environment()}
    with tempfile.TemporaryFile("w+", errors="replace") as complaint:
        process = subprocess.Popen(command(Path(root), cores), stderr=complaint, **pipes)
        # The pipe stays open while the worker trains, and closes when this process dies.
        answer = ask(process, line)
        with contextlib.suppress(BrokenPipeError):
            process.communicate(f"{END}\n")
        if answer:
            return json.loads(answer)
        complaint.seek(0)
        raise RuntimeError(cause(process.wait(), complaint.read()))


def ask(process, line: str) -> str:
    """A worker's answer to the line of a task, empty if it died."""
    try:
        process.stdin.write(line + "\n")
        process.stdin.flush()
    except BrokenPipeError:
        return ""
    answer = process.stdout.readline()
    return answer if answer.endswith("\n") else ""


def outcome(line: str, root: Path) -> dict:
    """{"errors": [why it failed, or None if its run has ended, of each job]} of a task.

    Jobs that fail together are trained one by one: it may be one alone that fails, or that they are together.
    """
    from classicnets.sweeps.jobs import read
    from classicnets.training.session import sentence

    try:
        task = read(line)
    except Exception as error:
        return {"errors": [sentence(error)] * len(json.loads(line))}
    error = _trained(task, root)
    if error is None or len(task) == 1:
        return {"errors": [error] * len(task)}
    return {"errors": [_trained([job], root) for job in task]}


def _trained(task: list, root: Path) -> str | None:
    """Why the jobs of a task could not be trained, None if their runs have ended."""
    from classicnets.exports import tensorboard
    from classicnets.runs import RunLocked
    from classicnets.training import train, train_packed
    from classicnets.training.session import sentence

    first = task[0]
    options: dict = {"runs": root, "experiment": first.experiment, "execution": first.execution}
    options["writer"] = tensorboard.writer(first.execution.tensorboard)
    while True:
        try:
            if len(task) == 1:
                train(first.model, first.config, name=first.name, start=first.start, **options)
            else:
                train_packed(first.model, [(job.name, job.config) for job in task], **options)
            return None
        except RunLocked:
            time.sleep(0.5)  # another sweep trains it: its end is ours
        except signals.Interrupted:
            raise
        except Exception as error:
            signals.let_go()
            return sentence(error.__cause__ or error)


def _lines(jobs: queue.Queue) -> None:
    for line in sys.stdin:
        jobs.put(line.strip())
        if line.strip() == END:
            return
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    from classicnets.system.cores import claim

    root, cores = Path(sys.argv[1]), int(sys.argv[2])
    # What a network prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signals.install()
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_lines, args=(jobs,), daemon=True).start()
    held = claim(cores, lambda: print(f"waiting for {cores} free cores", file=sys.stderr))
    from classicnets.system import caches

    caches.use_cache()
    try:
        while (text := jobs.get()) != END:
            print(json.dumps(outcome(text, root)), file=answers, flush=True)
    except signals.Interrupted:
        return signals.EXIT_INTERRUPTED
    finally:
        for file in held:
            file.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
