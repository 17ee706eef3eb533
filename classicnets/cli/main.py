"""The command line: it dispatches to a module a topic, and turns what the library raises into exit statuses."""

import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable

from classicnets import __version__
from classicnets.report.text import line
from classicnets.system import signals
from classicnets.system.words import nearest

HELP = """usage: classicnets COMMAND ...

  models                          the networks by name
  describe MODEL [options]        a network layer by layer, beside what its paper prints
  bench MODEL... [options]        forward pass and training step, timed, also beside PyTorch's or Keras's
  train MODEL [options]           one run: trained, resumed, or returned if it is complete
  resume RUN [options]            the same from the run's record
  fork RUN [options]              a new run that starts from the weights of RUN
  finetune RUN|FILE --dataset D   a new run with a new head from the weights of RUN, or of a file
  eval RUN                        errors of a run's newest good checkpoint, also by ten crops or densely
  eval --weights FILE             errors of anyone's weights on a data set
  predict RUN IMAGE...            what a network sees in images; with --weights FILE in place of RUN anyone's
  rerun RUN                       the run once more, from its record, compared bit by bit
  sweep MODEL... [options]        every combination of the options' values
  runs [RUN...] [options]         a table of runs, or a file of it
  verify RUN                      every file that a run holds, checked
  compare RUN RUN... [options]    what differs between runs, globs of runs or experiments, and by how much
  recipes [RECIPE...]             the papers' recipes, which --recipe of train and sweep takes
  weights import FILE --out FILE  another library's weights, checked and stored; weights export, weights show
  data list                       the data sets, and which are here
  data prepare NAME               fetch one, or make one of your own images with --source FOLDER
  data show NAME                  its classes, sizes, balance, and images that stand in two splits
  --version                       classicnets and its number

torchvision's resnet50 is resnet50_v1_5 here, since resnet50 is the paper's; other libraries' names are told.
'classicnets COMMAND --help' lists the options, and of those that depend on a MODEL or RUN 'classicnets train vgg16
--help'. Every listing takes --json."""
# The module of each command, imported when it is called.
COMMANDS = {
    **dict.fromkeys(("models", "describe"), "networks"),
    "bench": "bench",
    **dict.fromkeys(("train", "resume", "fork", "eval", "rerun"), "training"),
    **dict.fromkeys(("runs", "verify", "compare"), "runs"),
    "sweep": "sweep",
    "data": "data",
    "finetune": "finetune",
    "predict": "predict",
    "weights": "weights",
    "recipes": "recipes",
}
# Those whose options depend on the word that follows.
OF_A_WORD = ("describe", "bench", "train", "resume", "fork", "finetune", "sweep")
EXIT_BAD_INPUT, EXIT_DIVERGED, EXIT_LOCKED, EXIT_NOT_WRITTEN, EXIT_DAMAGED = 2, 3, 4, 5, 6


def main(arguments: list[str] | None = None) -> None:
    """Run the command in `arguments`, by default the process's, and exit with its status."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # an encoding without a character must not end a program
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(HELP)
    elif arguments[0] == "--version":
        print(f"classicnets {__version__}")
    else:
        sys.exit(answer("classicnets", _command, arguments))


def answer(program: str, function: Callable[[list[str]], int], arguments: list[str]) -> int:
    """Return the exit status of `function`; what it refuses or warns of is one sentence on standard error."""

    def say(sentence: object) -> None:
        print(line(f"{program}: {sentence}"), file=sys.stderr)

    signals.install()
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, category, *_: say(message)
        try:
            return function(arguments)
        except ValueError as error:
            say(error)
            return EXIT_BAD_INPUT
        except BrokenPipeError:  # the reader of the output, such as head, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except signals.Interrupted:
            say("interrupted; start the same command again to resume")
            return signals.EXIT_INTERRUPTED
        except Exception as error:
            from classicnets.runs.run import RunLocked
            from classicnets.system import accelerators
            from classicnets.system.writing import WriteFailed

            status = {RunLocked: EXIT_LOCKED, WriteFailed: EXIT_NOT_WRITTEN}.get(type(error))
            if isinstance(error, RuntimeError | AssertionError) and not accelerators.there_are():
                say(accelerators.MISSING.format(accelerators.platforms()))
                return EXIT_BAD_INPUT
            if status is None:
                raise
            say(error)
            return status


def _command(arguments: list[str]) -> int:
    command, *rest = arguments
    if command not in COMMANDS:
        raise ValueError(f"unknown command {command!r}{nearest(command, COMMANDS)}")
    if command in OF_A_WORD and rest and rest[0] in ("-h", "--help"):
        print(HELP)
        return 0
    if command in ("train", "resume"):
        _refuse_held(command, rest)
    module = importlib.import_module(f"classicnets.cli.{COMMANDS[command]}")
    return getattr(module, {"eval": "evaluate"}.get(command, command))(rest)


def _refuse_held(command: str, arguments: list[str]) -> None:
    """Raise RunLocked if a process holds the run that is to be trained, before the heavy imports."""
    from classicnets.cli.options import root_of
    from classicnets.runs.index import refuse_held

    word = arguments[0] if command == "resume" and arguments else None
    refuse_held(root_of(arguments), [command, *arguments], word)


if __name__ == "__main__":
    main()
