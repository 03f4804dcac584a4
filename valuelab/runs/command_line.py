"""Command lines whose flags are the fields of a config, without JAX: what starts other programs needs none.

Programs that compute take all this from `valuelab.runs.flags`.
"""

import contextlib
import errno
import io
import pathlib
import sys
import traceback
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from absl import app, flags, logging

from valuelab import configuration
from valuelab.configuration import Config
from valuelab.errors import InputError, describe

Parsed = TypeVar("Parsed")

_OF_THE_MACHINE = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.ELOOP),
}
"""Errors that say what is wrong with a file or a disk, where no line of the code says more."""

_READ_FROM_FILES = ("agent_name", "agent_source", "mdp_sha256")

_HELP = {"help", "helpshort", "helpfull", "helpxml", "?"}
"""absl's flags that show help."""


class _Verbatim(flags.ArgumentParser):
    """Takes what a flag says as it is; `configuration.override` gives it its type."""

    def __init__(self, expected: str):
        self.syntactic_help = expected

    def parse(self, argument: Any) -> Any:
        """Returns the argument."""
        return argument


def _define(config: Any, values: flags.FlagValues) -> None:
    """Defines a flag for each field, as flags of the program itself, which --help lists."""
    for name, field in configuration.fields(config).items():
        if name not in _READ_FROM_FILES:
            kind = flags.MultiFlag if field.annotation == tuple[str, ...] else flags.Flag
            parser, boolean = _Verbatim(field.expected), field.annotation is bool
            flag: flags.Flag[Any] = kind(parser, None, name, field.value, field.help, boolean=boolean)
            flags.DEFINE_flag(flag, values, module_name=sys.argv[0])
    _define_parts(config, values)
    known = configuration.fields(config)
    for short, names in configuration.aliases(config).items():
        if short not in values:
            boolean = all(name in known and known[name].annotation is bool for name in names)
            help = f"Short for {' and '.join(f'--{name}' for name in names)}."
            alias: flags.Flag[Any] = flags.Flag(_Verbatim(""), None, short, None, help, boolean=boolean)
            flags.DEFINE_flag(alias, values, module_name=sys.argv[0])


def _define_parts(config: Any, values: flags.FlagValues) -> None:
    """Defines a flag for each part of a config that is chosen by name."""
    for name, part in configuration.parts(config).items():
        parser = _Verbatim(f"one of {', '.join(part.choices)}")
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
                scan[short] = flags.Flag(_Verbatim(""), None, short, None, "")
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
        values: where the flags are defined.

    Returns:
        The program's name alone.

    Raises:
        InputError: for an unknown flag, with the nearest valid name, one that is given twice, or an argument
            that is no flag.
        flags.Error: for a value that its flag refuses.
    """
    program, *words = _parse(argv, values)
    _refuse(words)
    return [program]


def _parse(argv: list[str], values: flags.FlagValues) -> list[str]:
    """Parses flags that are already defined: the program's name, and the arguments that are no flags."""
    try:
        words = values(argv)
    except flags.UnrecognizedFlagError as error:
        modules = values.flags_by_module_dict()
        ours = [name for name in modules if not name.startswith("absl.")]
        names = [flag.name for module in ours for flag in modules[module]]
        raise configuration.unknown_field("flag", error.flagname, names) from error
    for name in values:
        flag = values[name]
        if flag.present > 1 and not isinstance(flag, flags.MultiFlag):
            raise InputError(f"--{name} is given {flag.present} times: give it once")
    return words


def _refuse(words: list[str]) -> None:
    """Raises where there is an argument that is no flag."""
    if words:
        raise InputError(f"argument {words[0]!r} belongs to no flag; write --name=value")


def parse_config(
    config: Config, argv: list[str], values: flags.FlagValues = flags.FLAGS, positional: str = ""
) -> Config:
    """Some settings as a command line changes them: each field becomes a flag.

    Args:
        config: the settings without a flag.
        argv: the command line, with the program's name.
        values: where the flags of the fields are defined.
        positional: the field whose value may be given without its name; empty for none.

    Returns:
        The settings.

    Raises:
        InputError: for anything on the command line that cannot be used.
        flags.Error: for a flag without its value.
    """
    config = _choose_parts(config, argv)
    _define(config, values)
    values.set_gnu_getopt(bool(positional))  # flags may follow the argument that has no name
    _, *words = _parse(argv, values)
    known = {*configuration.fields(config), *configuration.parts(config), *configuration.aliases(config)}
    given = {name: values[name].value for name in known if name in values and values[name].present}
    if words and positional:
        if positional in given:
            raise InputError(f"{positional} is given twice: {given[positional]!r} and {words[0]!r}")
        given[positional] = words.pop(0)
    _refuse(words)
    return configuration.override(config, given)


@contextlib.contextmanager
def told_of(path: pathlib.Path, kind: str, refusals: bool = True) -> Iterator[None]:
    """What goes wrong in a Python file of the user's, even `sys.exit`, becomes an error with file and line.

    Args:
        path: the file.
        kind: what it is, such as "agent file", for the message.
        refusals: whether it is named in an InputError, too, that is raised inside.

    Raises:
        InputError: in place of any exception.
    """
    try:
        yield
    except (Exception, SystemExit) as error:
        if isinstance(error, InputError) and not refusals:
            raise
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == str(path)]
        where = f"{path}, line {lines[-1]}" if lines else path
        words = str(error) if isinstance(error, InputError) else describe(error)
        raise InputError(f"{kind} {where}: {words}") from error


def run(main: Callable[[Parsed], Any], parse: Callable[[list[str]], Parsed]) -> None:
    """Runs a program: what the user got wrong is one line and exit status 2, never a traceback.

    Args:
        main: takes what `parse` returns.
        parse: command line -> what main takes.
    """

    def parse_or_help(argv: list[str]) -> Parsed:
        try:
            return parse(argv)
        except SystemExit:
            if _HELP & {word.lstrip("-") for word in argv[1:]}:
                sys.exit(0)  # what was asked for was shown; absl would say 1
            raise

    def quiet_main(parsed: Parsed) -> Any:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # orbax tells of every file at INFO
        return main(parsed)

    for stream in (sys.stdout, sys.stderr):  # tables and bars have letters that not every terminal has
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app.run(quiet_main, flags_parser=parse_or_help)
    except (InputError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Exception as error:
        of_the_machine = isinstance(error, OSError) and error.errno in _OF_THE_MACHINE
        if not of_the_machine:
            traceback.print_exc()
        # The last line is what a log is asked for, and JAX ends its tracebacks with words of its own.
        print(f"error: {describe(error)}", file=sys.stderr)
        sys.exit(2 if of_the_machine else 1)
