"""Completion of command lines in a shell: commands, flags, and the names that flags take.

The scripts of `script` ask `complete` at each press of the Tab key. The flags of a program depend on its
agent, and it takes a second to find them, so they are kept in CACHE. This module does not import JAX.
"""

import contextlib
import importlib
import json
import pathlib
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from valuelab import errors, files
from valuelab.errors import InputError

CACHE = pathlib.Path("~/.cache/valuelab/completion.json")
"""The flags and names that were found before."""

_SCRIPTS = {
    "bash": r"""_valuelab() {
  local IFS=$'\n'
  COMPREPLY=($(valuelab complete bash "${COMP_LINE:0:COMP_POINT}" 2>/dev/null))
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _valuelab valuelab""",
    "zsh": r"""#compdef valuelab
_valuelab() {
  local -a found=("${(@f)$(valuelab complete zsh "$BUFFER[1,CURSOR]" 2>/dev/null)}")
  [[ -n $found ]] && compadd -S '' -- $found || _files
}
compdef _valuelab valuelab""",
    "fish": r"""complete -c valuelab -a '(valuelab complete fish (commandline -cp) 2>/dev/null)'""",
}
_USE = {
    "bash": "# In ~/.bashrc: source <(valuelab completion bash)",
    "zsh": "# In ~/.zshrc, after compinit: source <(valuelab completion zsh)",
    "fish": "# In ~/.config/fish/config.fish: valuelab completion fish | source",
}
_LISTS = {
    "dataset": "datasets",
    "environment": "environments",
    "objective": "objectives",
    "problem": "gridworlds",
    "topology": "topologies",
}
"""Flag -> the list that has its values, see `listing.entries`."""


def script(shell: str = "") -> str:
    """The script that a shell sources.

    Raises:
        InputError: for another shell than bash, zsh and fish.
    """
    if shell not in _SCRIPTS:
        raise errors.unknown("shell", shell, _SCRIPTS)
    return f"{_USE[shell]}\n{_SCRIPTS[shell]}"


def complete(programs: Mapping[str, str], shell: str = "", line: str = "") -> list[str]:
    """The words that may stand at the end of a command line.

    Args:
        programs: command -> module of its program.
        shell: "bash", "zsh" or "fish". Bash replaces only what follows the last "=" or ":" of a word.
        line: the command line up to the cursor, with the program's name.

    Returns:
        Full words, or what follows the last "=" or ":" in bash; [] to complete the names of files.
    """
    words = _split(line)[1:]
    if not words:
        return []
    *before, current = words
    found = [word for word in _candidates(programs, before, current) if word.startswith(current)]
    if shell == "bash":
        kept = max(current.rfind("="), current.rfind(":")) + 1
        return [word[kept:] for word in found]
    return found


def _split(line: str) -> list[str]:
    """The words of an unfinished command line; the last one, where the cursor is, may be empty."""
    for closing in ("", '"', "'"):
        try:
            words = shlex.split(line + closing)
        except ValueError:  # a quotation is open
            continue
        return [*words, ""] if line[-1:].isspace() or not words else words
    return []


def _candidates(programs: Mapping[str, str], before: Sequence[str], current: str) -> list[str]:
    """All words that may follow `before`, among them those that begin with `current`."""
    if not before:
        return [*programs, "list", "completion", "--help", "--version"]
    command, *given = before
    if command == "completion":
        return list(_SCRIPTS)
    if command == "list":
        return [] if given else _kept("kinds", _kinds)
    if command not in programs:
        return []
    if current.startswith("--") and "=" in current:
        flag, _, value = current[2:].partition("=")
        return [f"--{flag}={each}" for each in _values(programs[command], given, flag, value)]
    if current.startswith("-"):
        return [f"--{flag}" for flag in _flags(programs[command], given)]
    if command == "inspect":
        return _kept("datasets", lambda: _listed("datasets"))
    return []


def _values(program: str, given: Sequence[str], flag: str, value: str) -> list[str]:
    """The values that a flag takes; [] where any are possible."""
    if flag == "agent":
        agent, colon, _ = value.partition(":")
        if colon and not agent.endswith(".py"):
            return _kept(f"presets {agent}", lambda: _listed("presets", agent))
        return _kept("agents", lambda: _listed("agents"))
    if flag in _LISTS:
        return _kept(_LISTS[flag], lambda: _listed(_LISTS[flag]))
    return _flags(program, given).get(f"{flag}=", [])


def _kinds() -> list[str]:
    from valuelab.runs import listing

    return list(listing.KINDS)


def _listed(kind: str, name: str = "") -> list[str]:
    from valuelab.runs import listing

    return list(listing.entries(kind, name))


def _flags(program: str, given: Sequence[str]) -> dict[str, list[str]]:
    """The flags of a program, with "=" at the end of those that take a value -> their values, if few.

    Args:
        program: the module.
        given: the words so far; an agent, and a part that is chosen by name, have flags of their own.
    """
    chosen = [
        word for word in given if word.startswith("--agent") and ".py" not in word
    ]  # no file is executed
    return _kept(" ".join([program, *chosen]), lambda: _defined(program, chosen))


def _defined(program: str, given: Sequence[str]) -> dict[str, list[str]]:
    """As `_flags`; imports the program."""
    from absl import flags as absl_flags

    module = importlib.import_module(program)
    if hasattr(module, "parse"):
        values = absl_flags.FlagValues()
        with contextlib.suppress(InputError, absl_flags.Error):  # the command line is not finished
            module.parse([program, *given], values)
    else:
        values = absl_flags.FLAGS  # where importing the program has defined its flags
    named = {
        flag.name: flag
        for name, flags in values.flags_by_module_dict().items()
        if name.partition(".")[0] not in ("absl", "chex")
        for flag in flags
    }
    return {
        name if flag.boolean else f"{name}=": list(getattr(flag.parser, "choices", ()))
        for name, flag in sorted(named.items())
    }


def _kept(key: str, find: Callable[[], Any]) -> Any:
    """What `find` returns, from CACHE if valuelab has not changed since."""
    package = pathlib.Path(errors.__file__).parent
    stamp = f"{package} {max(path.stat().st_mtime_ns for path in package.rglob('*.py'))}"
    kept: dict[str, Any] = {}
    with contextlib.suppress(OSError, RuntimeError, InputError):  # the file or the home folder is missing
        path = CACHE.expanduser()
        saved = files.read_json(path, "cache of completions", "remove it", stamp=str, kept=dict)
        kept = saved["kept"] if saved["stamp"] == stamp else {}
    if key not in kept:
        kept[key] = find()
        with contextlib.suppress(OSError, RuntimeError):
            path = CACHE.expanduser()
            path.parent.mkdir(parents=True, exist_ok=True)
            files.replace_file(path, json.dumps({"stamp": stamp, "kept": kept}))
    return kept[key]
