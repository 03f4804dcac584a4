"""Command lines whose flags are the fields of a config, without JAX, for programs that only start others.

Programs that use JAX take these functions from `valuelab.runs.flags`.
"""

import contextlib
import errno
import io
import logging as standard_logging
import os
import pathlib
import runpy
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from absl import app, flags, logging

from valuelab import configuration
from valuelab.configuration import Config
from valuelab.errors import InputError, describe, unknown

Arguments = TypeVar("Arguments")

_DISK_ERRORS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
}
"""Errors of a file or a disk, for which a traceback adds nothing to the message."""

_NOT_FLAGS = ("agent_name", "agent_source", "mdp_sha256")
"""Fields of configs that are read from files and not from the command line."""

_HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}
"""The flags of absl that show help."""


class _Unconverted(flags.ArgumentParser):
    """Returns the text of a flag; `configuration.override` converts it to the type of the field."""

    def __init__(self, expected: str, choices: tuple[str, ...] = ()):
        self.syntactic_help = expected
        self.choices = choices

    def parse(self, argument: Any) -> Any:
        """Returns the argument."""
        return argument


class _PlainFormatter(standard_logging.Formatter):
    """Shows "warning: MESSAGE", as programs print their own warnings, without time, process and line."""

    def format(self, record: standard_logging.LogRecord) -> str:
        """The line of a record."""
        return f"{record.levelname.lower()}: {super().format(record)}"


def _define(config: Any, values: flags.FlagValues) -> None:
    """Defines a flag of the program for each field, so that --help lists it."""
    for name, field in configuration.fields(config).items():
        if name not in _NOT_FLAGS:
            kind = flags.MultiFlag if field.annotation == tuple[str, ...] else flags.Flag
            parser, boolean = _Unconverted(field.expected, field.choices), field.annotation is bool
            flag: flags.Flag[Any] = kind(parser, None, name, field.value, field.help, boolean=boolean)
            flags.DEFINE_flag(flag, values, module_name=sys.argv[0])
    _define_parts(config, values)
    known = configuration.fields(config)
    for short, names in configuration.aliases(config).items():
        if short not in values:
            boolean = all(name in known and known[name].annotation is bool for name in names)
            help = f"Short for {' and '.join(f'--{name}' for name in names)}."
            alias: flags.Flag[Any] = flags.Flag(_Unconverted(""), None, short, None, help, boolean=boolean)
            flags.DEFINE_flag(alias, values, module_name=sys.argv[0])


def _define_parts(config: Any, values: flags.FlagValues) -> None:
    """Defines a flag for each part of a config that is chosen by name."""
    for name, part in configuration.parts(config).items():
        parser = _Unconverted(f"one of {', '.join(part.choices)}", tuple(part.choices))
        flag: flags.Flag[Any] = flags.Flag(parser, None, name, part.chosen, part.help)
        flags.DEFINE_flag(flag, values, module_name=sys.argv[0])


def _choose_parts(config: Config, argv: list[str]) -> Config:
    """The settings with the parts that a command line names: their fields are flags, too."""
    while True:
        scan = flags.FlagValues()
        scan.set_gnu_getopt()
        _define_parts(config, scan)
        known = configuration.parts(config)
        for short, names in configuration.aliases(config).items():
            if short not in scan and known.keys() & set(names):
                scan[short] = flags.Flag(_Unconverted(""), None, short, None, "")
        scan(argv, known_only=True)
        given = {name: scan[name].value for name in scan if scan[name].present}
        chosen = configuration.override(config, given)
        if chosen == config:
            return config
        config = chosen


def parse_flags(argv: list[str], values: flags.FlagValues = flags.FLAGS) -> list[str]:
    """Parses flags that are already defined.

    Args:
        argv: the command line, with the program's name.
        values: holds the defined flags.

    Returns:
        A list with the program's name.

    Raises:
        InputError: for an unknown flag (the message names the nearest one), a flag that is given twice, or
            an argument that is not a flag.
        flags.Error: for a value that the flag does not accept.
    """
    program, *words = _parse(argv, values)
    _refuse_words(words)
    return [program]


def _parse(argv: list[str], values: flags.FlagValues) -> list[str]:
    """Parses flags that are defined; returns the program's name and the arguments that are not flags."""
    try:
        words = values(argv)
    except flags.UnrecognizedFlagError as error:
        modules = values.flags_by_module_dict()
        ours = [name for name in modules if name.partition(".")[0] not in ("absl", "chex")]
        names = [flag.name for module in ours for flag in modules[module]]
        raise configuration.unknown_field("flag", error.flagname, names) from error
    for name in values:
        flag = values[name]
        if flag.present > 1 and not isinstance(flag, flags.MultiFlag):
            raise InputError(f"--{name} is given {flag.present} times: give it once")
    return words


def _refuse_words(words: list[str]) -> None:
    """Raises InputError if there are arguments that are not flags."""
    if words:
        raise InputError(f"argument {words[0]!r} does not belong to a flag: write --name=value")


def parse_config(
    config: Config, argv: list[str], values: flags.FlagValues = flags.FLAGS, positional: str = ""
) -> Config:
    """Parses a command line where each field of a config is a flag.

    Args:
        config: the default settings.
        argv: the command line, with the program's name.
        values: holds the defined flags; those of the fields are added.
        positional: the field whose value may be given without its name, or all its values if it is a list;
            empty for none.

    Returns:
        The settings.

    Raises:
        InputError: for an argument that cannot be used.
        flags.Error: for a flag without its value.
    """
    config = _choose_parts(config, argv)
    _define(config, values)
    values.set_gnu_getopt(bool(positional))  # flags may follow the argument without a name
    _, *words = _parse(argv, values)
    known = {*configuration.fields(config), *configuration.parts(config), *configuration.aliases(config)}
    given = {name: values[name].value for name in known if name in values and values[name].present}
    if words and positional:
        if positional in given:
            raise InputError(f"{positional} is given twice: {given[positional]!r} and {words[0]!r}")
        is_list = configuration.fields(config)[positional].annotation == tuple[str, ...]
        given[positional], words = (words, []) if is_list else (words[0], words[1:])
    _refuse_words(words)
    return configuration.override(config, given)


def command(program: str, *arguments: object) -> str:
    """The command that starts a program of `experiments`, with its arguments quoted for a shell."""
    return shlex.join(["python", "-m", f"experiments.{program}", *map(str, arguments)])


def columns(rows: Mapping[str, str]) -> str:
    """Names and the line about each, as text in two columns."""
    width = max((len(name) for name in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {line}".rstrip() for name, line in rows.items())


def asks_for_help(argv: list[str]) -> bool:
    """Whether a command line contains a flag that shows help."""
    return bool(_HELP & {word.lstrip("-") for word in argv[1:] if word.startswith("-")})


def add_to_help(text: str) -> None:
    """Adds a paragraph to what --help shows before the flags: the docstring of the program."""
    program = sys.modules["__main__"]
    program.__doc__ = f"{(program.__doc__ or '').rstrip()}\n\n{text}\n"


@contextlib.contextmanager
def errors_of_file(path: pathlib.Path, kind: str, keep_input_errors: bool = False) -> Iterator[None]:
    """Turns any exception of a Python file of the user, also `sys.exit`, into one that names file and line.

    Args:
        path: the file.
        kind: the kind of file, such as "agent file", for the message.
        keep_input_errors: whether an InputError stays as it is.

    Raises:
        InputError: in place of the exception.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError) and keep_input_errors:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else path
        message = str(error) if isinstance(error, InputError) else describe(error)
        raise InputError(f"{kind} {where}: {message}") from error


def load_function(source: str, field: str) -> Callable[..., Any]:
    """The function of a FILE.py:FUNCTION. Executes the file.

    Args:
        source: what the user wrote.
        field: the setting, for messages.

    Raises:
        InputError: when the file or the function does not exist, or the file fails.
    """
    name, _, function = source.rpartition(":")
    path = pathlib.Path(name)
    if not name.endswith(".py"):
        raise InputError(f"{field} is {source!r}: write FILE.py:FUNCTION")
    if not path.is_file():
        raise InputError(f"{field} is {source!r}, but there is no file {name}: give the path of the file")
    with errors_of_file(path, f"{field} file"):
        names = runpy.run_path(name)
    functions = {key: value for key, value in names.items() if callable(value) and not key.startswith("_")}
    if function not in functions:
        raise unknown(f"function in {path}", function, functions)
    return functions[function]


def print_next(*lines: str) -> None:
    """Prints what can be done next, as the last lines of a program.

    Args:
        lines: commands, or Python expressions with a few words; one or two.
    """
    for start, line in zip(("next: ", "  or: "), lines, strict=False):
        print(start + line)


def run(main: Callable[[Arguments], Any], parse: Callable[[list[str]], Arguments]) -> None:
    """Runs a program; a mistake of the user gives one line and exit status 2, not a traceback.

    Args:
        main: the program, a function of what `parse` returns.
        parse: command line -> the argument of `main`.
    """

    def parse_or_help(argv: list[str]) -> Arguments:
        try:
            return parse(argv)
        except SystemExit:
            if asks_for_help(argv):
                sys.exit(0)  # absl exits with 1 after help
            raise

    def quiet_main(arguments: Arguments) -> Any:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax logs every file at INFO
            logging.get_absl_handler().setFormatter(_PlainFormatter())
        return main(arguments)

    for stream in (sys.stdout, sys.stderr):  # some terminals lack characters of tables and progress bars
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app.run(quiet_main, flags_parser=parse_or_help)
    except (InputError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:  # the reader of the output has ended, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python's last flush fails
        sys.exit(1)
    except Exception as error:
        is_disk_error = isinstance(error, OSError) and error.errno in _DISK_ERRORS
        if not is_disk_error:
            traceback.print_exc()
        # The last line of a log should be the error, and JAX ends its tracebacks with other text.
        print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(2 if is_disk_error else 1)
