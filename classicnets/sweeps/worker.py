"""The process that trains tasks: one JSON line each on standard input, one line with the outcome on standard output.

Every engine starts these, on a number of cores of their own, so that the engine cannot change the bits. When standard
input closes early, the one that started it has died: the worker then saves what is finished and ends.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from classicnets import signals

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


def train_in_process_of_its_own(text: str, root: str, cores: int) -> dict:
    """The outcome of one task, as an engine runs it; RuntimeError if the worker dies, so that it is tried again."""
    process = subprocess.Popen(
        command(Path(root), cores),
        env=environment(),
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdin
    # The pipe stays open while the worker trains, and closes when this process dies.
    process.stdin.write(f"{text}\n{END}\n")
    process.stdin.flush()
    complaint: list[str] = []
    reader = threading.Thread(target=lambda: complaint.append(process.stderr.read()))  # pyright: ignore
    reader.start()
    assert process.stdout
    out = process.stdout.read()
    code = process.wait()
    reader.join()
    process.stdin.close()
    if not out:
        raise RuntimeError(cause(code, complaint[0]))
    return json.loads(out)


def outcome(line: str, root: Path) -> dict:
    """{"states": [of each job's run]} of a task that was trained, resumed or found ended; {"states": [], "error"} of
    one that failed."""
    from classicnets.runs import RunLocked
    from classicnets.sweeps.jobs import read
    from classicnets.training.session import sentence

    while True:
        try:
            return {"states": [run.status["state"] for run in _trained(read(line), root)]}
        except RunLocked:
            time.sleep(0.5)  # another sweep trains it: its end is ours
        except signals.Interrupted:
            raise
        except Exception as error:
            return {"states": [], "error": sentence(error.__cause__ or error)}


def _trained(task: list, root: Path) -> list:
    from classicnets.training import train, train_packed

    first = task[0]
    options = {"runs": root, "experiment": first.experiment, "execution": first.execution}
    if len(task) == 1:
        return [train(first.model, first.config, name=first.name, **options)]
    return train_packed(first.model, [(job.name, job.config) for job in task], **options)


def _lines(jobs: queue.Queue) -> None:
    for line in sys.stdin:
        jobs.put(line.strip())
        if line.strip() == END:
            return
    os.kill(os.getpid(), signal.SIGTERM)


def main() -> int:
    from classicnets.sweeps.cores import claim

    root, cores = Path(sys.argv[1]), int(sys.argv[2])
    # What a network prints must not be taken for an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    signals.install()
    jobs: queue.Queue[str] = queue.Queue()
    threading.Thread(target=_lines, args=(jobs,), daemon=True).start()
    held = claim(cores, lambda: print(f"waiting for {cores} free cores", file=sys.stderr))
    from classicnets.training import compilation

    compilation.use_cache()
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
