"""The table of all records: `python -m experiments` writes experiments/README.md."""

import json
from pathlib import Path

FOLDER = Path(__file__).parent


def table() -> str:
    """experiments/README.md, from the verdicts in records/."""
    lines = [
        "# Experiments",
        "",
        "One file a claim; each ends in a verdict under a criterion that was committed before the runs.",
        "",
        "    python -m experiments",
        "",
        "writes this table from the records.",
        "",
        "| claim | sweep | outcome | n | command |",
        "| --- | --- | --- | --- | --- |",
    ]
    for path in sorted(FOLDER.glob("records/*/*/verdict.json")):
        judged = json.loads(path.read_text(encoding="utf-8"))
        experiment, preset = path.parts[-3:-1]
        folder = f"records/{experiment}/{preset}"
        curves = f", [curves]({folder}/page.html)" if path.with_name("page.html").exists() else ""
        lines.append(
            f"| {judged['sentence']} | [{experiment}, {preset}]({folder}/README.md){curves} "
            f"| {judged['outcome']} | {judged['n']} | `python -m experiments.{experiment} --preset {preset}` |"
        )
    for path in sorted(FOLDER.glob("records/speed/README.md")):
        outcome = path.read_text(encoding="utf-8").splitlines()[0].partition(": ")[2]
        lines.append(
            "| scanned blocks and the canonical gradient are quick on a CPU | [speed](records/speed/README.md) "
            f"| {outcome} | | `python -m experiments.speed` |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    (FOLDER / "README.md").write_text(table(), encoding="utf-8")
