"""Errors for input that cannot be used.

Every message is one line: it names the file, field and value at fault and says what to do next.
Programs print the line and exit with status 2; in libraries and notebooks it is an exception.
"""

import contextlib
import difflib
import importlib
import os
import sysconfig
import traceback
from collections.abc import Iterable, Iterator
from types import ModuleType

MOST_LISTED = 8
"""A message lists all valid names if there are at most twice this number, else only this number of them."""

MIN_SIMILARITY = 0.6
"""The smallest similarity (difflib's ratio) of a name and a valid name that a message suggests."""
MIN_BEGINNING = 3
"""The smallest number of letters of a name that count as the beginning of a valid name."""


class InputError(ValueError):
    """Something the user gave (a flag, a file, a field) cannot be used; the message says what to do."""


class MissingExtraError(InputError, ImportError):
    """An optional package is not installed; the message names the extra that installs it."""


def nearest(value: str, choices: Iterable[str], least: float = MIN_SIMILARITY) -> list[str]:
    """The valid names that the user may have meant, the most similar first.

    Names are compared without regard to case. A valid name with dots is compared as a whole and by its last
    part. A valid name is similar to its own beginning.

    Args:
        value: the name that the user wrote.
        choices: the valid names.
        least: the smallest similarity, at least MIN_SIMILARITY.

    Returns:
        The names whose similarity (difflib's ratio) is at least `least`; [] if none is. Of equally similar
        names, such as versions, the last in the alphabet comes first.
    """
    similar = {choice: _similarity(value, choice) for choice in sorted(choices, reverse=True)}
    return sorted((name for name in similar if similar[name] >= least), key=lambda name: -similar[name])


def _similarity(value: str, choice: str) -> float:
    """The similarity of two names in [0, 1]."""

    def ratio(name: str) -> float:
        # The letters of each make a set for quick bounds, as in difflib.get_close_matches.
        matcher = difflib.SequenceMatcher(None, name.lower(), value.lower())
        possible = min(matcher.real_quick_ratio(), matcher.quick_ratio())
        begins = len(value) >= MIN_BEGINNING and name.lower().startswith(value.lower())
        return max(matcher.ratio() if possible >= MIN_SIMILARITY else 0.0, MIN_SIMILARITY * begins)

    whole = ratio(choice)
    return whole if "." in value or "." not in choice else max(whole, ratio(choice.rpartition(".")[2]))


def unknown(kind: str, value: str, choices: Iterable[str], meant: Iterable[str] | None = None) -> InputError:
    """The error for an unknown name; it suggests the nearest valid name if one is similar.

    Args:
        kind: the kind of thing that the name denotes, such as "dataset" or "agent field".
        value: the name that the user wrote.
        choices: the valid names.
        meant: the names that the user probably meant; by default the valid name that is most similar, if any.

    Returns:
        An InputError to raise.
    """
    choices = sorted(choices)
    similar = nearest(value, choices)
    suggested = similar[:1] if meant is None else list(meant)
    hint = f": did you mean {' or '.join(map(repr, suggested))}? Known" if suggested else "; known"
    # An agent's fields can be listed nearly in full; hundreds of datasets cannot.
    listed = choices
    if len(choices) > 2 * MOST_LISTED:
        shown = [*similar, *(choice for choice in choices if choice not in similar)][:MOST_LISTED]
        listed = [*shown, f"and {len(choices) - MOST_LISTED} more"]
    return InputError(f"unknown {kind} {value!r}{hint}: {', '.join(listed) or 'none'}.")


def no_source(kind: str, value: str, meant: str, examples: Iterable[str]) -> InputError:
    """The error for a name that lacks its source, as in SOURCE/NAME.

    Args:
        kind: the kind of thing that the name denotes, such as "dataset".
        value: the name that the user wrote.
        meant: the full name that the user probably meant; empty if unknown.
        examples: one full name for each source.

    Returns:
        An InputError to raise.
    """
    advice = f"did you mean {meant!r}?" if meant else f"write SOURCE/NAME, such as {', '.join(examples)}"
    return InputError(f"{kind} {value!r} does not begin with a known source: {advice}")


def words(error: BaseException) -> str:
    """The message of an exception on one line; the name of its type where it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def describe(error: BaseException) -> str:
    """An exception of somebody else's code on one line: its type and its message.

    The message of a failed JAX callback is a whole traceback: the line describes the exception at its end.
    """
    _, traceback, rest = str(error).rpartition("Traceback (most recent call last):\n")
    if traceback:
        lines = rest.splitlines()
        frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
        return " ".join(" ".join(lines[max(frames, default=-1) + 1 :]).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


def located(error: BaseException) -> str:
    """An exception of the user's own code on one line: its type, its message, and the file and line.

    The line is missing where code of Python, of an installed package or of valuelab raised the exception, and
    no code of the user called it.
    """
    paths = sysconfig.get_paths()
    others = ("<", os.path.dirname(__file__), paths["stdlib"], paths["purelib"], paths["platlib"])
    cause: BaseException | None = error
    while cause:
        if isinstance(cause, SyntaxError) and cause.filename:
            return f"{describe(error)}, {cause.filename}, line {cause.lineno}"
        for frame in reversed(traceback.extract_tb(cause.__traceback__)):
            if not frame.filename.startswith(others) and "site-packages" not in frame.filename:
                return f"{describe(error)}, {frame.filename}, line {frame.lineno}"
        cause = cause.__cause__
    return describe(error)


@contextlib.contextmanager
def one_line(what: str, advice: str) -> Iterator[None]:
    """Turns any exception raised inside the block into an InputError of one line.

    Args:
        what: the failure, with the name of the file or environment, such as "FILE cannot be read".
        advice: what the user should do next.

    Raises:
        InputError: in place of any other exception, with its message; an InputError passes unchanged.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(
            f"{what}: it needs more memory than is free: free some memory, or use a larger machine"
        ) from error
    except Exception as error:
        raise InputError(f"{what} ({describe(error)}): {advice}") from error


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional module; if it is missing, the error names the extra that installs it.

    Args:
        module: dotted name of the module, such as "h5py".
        extra: the extra of valuelab that installs it, such as "data".

    Returns:
        The imported module.

    Raises:
        MissingExtraError: when the module (or something it imports) is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name or module} is not installed: install it with pip install 'valuelab[{extra}]'"
        ) from error
