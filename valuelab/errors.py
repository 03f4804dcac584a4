"""What a user is told when something they gave cannot be used.

Every message is one line that names the file, field and value at fault and says what to do next.
Launchers print the line and exit with status 2; libraries and notebooks see the exception.
"""

import contextlib
import difflib
import importlib
from collections.abc import Iterable, Iterator
from types import ModuleType

MOST_LISTED = 8
"""Of names that are more than twice as many, a message lists only the nearest so many."""


class InputError(ValueError):
    """Something the user gave (a flag, a file, a field) cannot be used; the message says what to do."""


class MissingExtraError(InputError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


def unknown(kind: str, value: str, choices: Iterable[str], nearest: str = "") -> InputError:
    """The error for a name that is not among the known ones, with the nearest valid name.

    Args:
        kind: what the name stands for, such as "dataset" or "agent field".
        value: what the user wrote.
        choices: the valid names.
        nearest: the one that was probably meant; by default the one with most letters in common,
            great or small.

    Returns:
        An InputError to raise.
    """
    choices = sorted(choices)
    spelt = {choice.lower(): choice for choice in reversed(choices)}
    close = [spelt[name] for name in difflib.get_close_matches(value.lower(), spelt, MOST_LISTED, 0.0)]
    hint = f"did you mean {(nearest or close[0])!r}? " if close else ""
    more = len(choices) - MOST_LISTED
    # Nearly all names of one kind, such as an agent's fields, are worth listing; hundreds are not.
    listed = choices if more <= MOST_LISTED else [*close, f"and {more} more"]
    return InputError(f"unknown {kind} {value!r}: {hint}Known: {', '.join(listed) or 'none'}.")


def no_source(kind: str, value: str, meant: str, examples: Iterable[str]) -> InputError:
    """The error for a name without the source that belongs before it.

    Args:
        kind: what the name stands for, such as "dataset".
        value: what the user wrote.
        meant: the whole name that was probably meant; empty where none is known.
        examples: whole names, of each source one.

    Returns:
        An InputError to raise.
    """
    advice = f"did you mean {meant!r}?" if meant else f"write SOURCE/NAME, such as {', '.join(examples)}"
    return InputError(f"{kind} {value!r} names no source: {advice}")


def told(error: BaseException) -> str:
    """What went wrong in the code of others, as one line: the kind of the exception and its words.

    Of a callback of JAX's, whose words are a whole traceback, it is the exception that this ends with.
    """
    _, traceback, rest = str(error).rpartition("Traceback (most recent call last):\n")
    if traceback:
        lines = rest.splitlines()
        frames = [number for number, line in enumerate(lines) if line.startswith("  ")]
        return " ".join(" ".join(lines[max(frames, default=-1) + 1 :]).split())
    return f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(": ")


@contextlib.contextmanager
def one_line(what: str, advice: str) -> Iterator[None]:
    """Turns whatever a reader of files raises inside the block into one line.

    Args:
        what: is wrong then, and with which file, such as "FILE cannot be read".
        advice: what to do about it.

    Raises:
        InputError: in place of any other exception, with its words; one that is raised stays as it is.
    """
    try:
        yield
    except InputError:
        raise
    except MemoryError as error:
        raise InputError(f"{what}: it takes more memory than there is: free some, or use more") from error
    except Exception as error:
        raise InputError(f"{what} ({told(error)}): {advice}") from error


def require(module: str, extra: str) -> ModuleType:
    """Imports an optional module, or says which extra installs it.

    Args:
        module: dotted name of the module, such as "h5py".
        extra: the extra of valuelab that brings it, such as "data".

    Returns:
        The imported module.

    Raises:
        MissingExtraError: when the module (or something it imports) is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"{error.name or module} is not installed; it comes with: pip install 'valuelab[{extra}]'"
        ) from error
