r"""valuelab: value learning in JAX.

valuelab COMMAND ...            or python -m experiments COMMAND ...
valuelab COMMAND --help         what a command does, and its flags
valuelab list KIND [NAME]       agents, presets, datasets, environments, objectives, gridworlds or topologies
valuelab completion SHELL       completion of commands, flags and names for bash, zsh or fish
valuelab --version
"""

import os
import runpy
import sys

import valuelab
from valuelab import errors
from valuelab.runs import command_line, completion

COMMANDS = {
    "train": ("train", "train an agent on a dataset, in an environment or both"),
    "zero-shot": ("zero_shot", "train an agent without rewards, and evaluate it on tasks"),
    "solve": ("solve", "solve a finite MDP for an objective of its return distribution"),
    "benchmark": ("benchmark", "run a suite: many agents on many datasets"),
    "report": ("report", "write tables and figures of runs"),
    "inspect": ("inspect_dataset", "show what a dataset contains, and its faults"),
    "collect": ("collect", "make a dataset with scripted oracles or by exploring"),
    "convert": ("convert_to_rlds", "write a dataset as RLDS"),
    "compare-datasets": ("compare_datasets", "compare two OGBench files"),
    "diagnose": ("diagnose", "diagnose the critics of a trained run"),
    "ahead-of-time": ("ahead_of_time", "compile a training program for TPUs or GPUs, and show its bound"),
    "demo": ("demo", "train IQL in a maze, from data to pictures"),
}
"""Command -> its program in this folder, and what it does."""


def main() -> None:
    """Starts the program that the first word of the command line names."""
    command, *rest = sys.argv[1:] or ["--help"]
    sys.path.insert(0, os.getcwd())  # as `python -m` does: agent files may import modules that lie here
    if command in COMMANDS:
        program = f"experiments.{COMMANDS[command][0]}"
        sys.argv = [f"valuelab {command}", *rest]
        runpy.run_module(program, run_name="__main__", alter_sys=True)
        return
    try:
        print(_answer(command, rest), flush=True)
    except BrokenPipeError:  # the reader, such as `head`, has what it wants
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at the end
    except errors.InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _answer(command: str, words: list[str]) -> str:
    """What a command prints that starts no program.

    Raises:
        InputError: when the command or its words are unknown.
    """
    if command in ("help", "-h", "--help", "--helpfull"):
        lines = {name: line for name, (_, line) in COMMANDS.items()}
        return f"{(__doc__ or '').strip()}\n\nCommands:\n{command_line.columns(lines)}"
    if command == "--version":
        return f"valuelab {valuelab.__version__}"
    if command == "list":
        from valuelab.runs import listing  # with JAX, which the other commands here do not need

        kind, name, *others = [*words, "", ""]
        if not kind or any(others):
            raise errors.InputError(f"write valuelab list KIND, where KIND is {', '.join(listing.KINDS)}")
        return command_line.columns(listing.entries(kind, name))
    if command == "completion":
        return completion.script(*words[:1])
    if command == "complete":  # for the scripts of `completion`
        programs = {name: f"experiments.{program}" for name, (program, _) in COMMANDS.items()}
        return "\n".join(completion.complete(programs, *words))
    raise errors.unknown("command", command, [*COMMANDS, "list", "completion"])


if __name__ == "__main__":
    main()
