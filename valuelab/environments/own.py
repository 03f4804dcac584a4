"""Environments of the user: a module or a file that registers them with gymnasium, or that defines them.

The name of such an environment is SOURCE:NAME. SOURCE is a module, such as my_package.my_env, or a file, such
as envs/reach.py. NAME is an id that the source registers, or a class or a function in it that makes a
gymnasium.Env.
"""

import hashlib
import importlib
import importlib.util
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any

from valuelab import errors, files
from valuelab.environments import creation

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")
_PLAIN = re.compile(r"[\w -]*")
"""Texts that are neither the path of a file nor an entry point of code."""


def source_of(environment: str) -> str:
    """The module or file that the name of an environment would import; empty if it would import none.

    Args:
        environment: the name, with or without "gymnasium/" at its beginning.
    """
    source = environment.removeprefix("gymnasium/").rpartition(":")[0]
    return source if _is_source(source) else ""


def _is_source(text: str) -> bool:
    """Whether a text is a file or a module that may be imported."""
    return text.endswith(".py") or bool(_MODULE.fullmatch(text))


def absolute(source: str) -> str:
    """A source that stays the same in another working directory."""
    return str(files.local_path("environment", source).absolute()) if source.endswith(".py") else source


def create(source: str, name: str, environment_kwargs: Mapping[str, Any]) -> Any:
    """A new gymnasium.Env; see `creation.create`. Its source is imported first, also in another process.

    Args:
        source: a module or a file.
        name: an id that it registers, or the name of a class or a function in it.
        environment_kwargs: keyword arguments of gymnasium.make.

    Raises:
        InputError: as for `find` and `creation.create`.
    """
    return creation.create(find(source, name), environment_kwargs, f"{source}:{name}")


def find(source: str, name: str) -> Any:
    """The gymnasium.EnvSpec of an environment of the user.

    Args:
        source: a module or a file.
        name: an id that it registers, or the name of a class or a function in it.

    Raises:
        InputError: when the source cannot be imported, or has no such environment.
    """
    gymnasium = errors.require("gymnasium", "environments")
    module = _load(source, name)
    if name in gymnasium.registry:
        return gymnasium.registry[name]
    entry = getattr(module, name, None)
    if callable(entry):
        return gymnasium.envs.registration.EnvSpec(name, entry)
    known = [*_registered(module, gymnasium.registry), *_defined(module, gymnasium.Env)]
    if not known:
        raise errors.InputError(
            f"environment {source}:{name}: {source} registers no environment and defines no gymnasium.Env: "
            f"call gymnasium.register(id={name!r}, entry_point=...) in it"
        )
    raise errors.unknown(f"environment of {source}", name, known)


def code_or_files(environment: str, environment_kwargs: Mapping[str, Any]) -> str:
    """The part of an environment's settings that could run code or read files; empty if there is none.

    Args:
        environment: the name of the environment.
        environment_kwargs: its keyword arguments.
    """
    if source := source_of(environment):
        return f"the environment {environment!r}, which would execute {source}"
    texts = (text for text in texts_of(environment_kwargs) if not is_plain(text))
    return next((f"{text!r} in environment_kwargs, which could be a file or code" for text in texts), "")


def is_plain(text: str) -> bool:
    """Whether a text is neither the path of a file nor an entry point of code."""
    return bool(_PLAIN.fullmatch(text))


def texts_of(value: Any) -> Iterator[str]:
    """The texts in a JSON value, without the keys of objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from texts_of(part)


def _load(source: str, name: str) -> ModuleType:
    """Imports a module or a file once; a file that has changed is imported again."""
    if not _is_source(source):  # `code_or_files` does not say that it would be imported
        raise errors.InputError(
            f"environment {source}:{name}: {source} is neither a module nor a file that ends in .py: correct "
            "it"
        )
    try:
        if not source.endswith(".py"):
            if not {"", os.getcwd()} & set(sys.path):  # console scripts do not search the current folder
                sys.path.append(os.getcwd())
            creation.import_late_package(source)
            return importlib.import_module(source)
        path = pathlib.Path(absolute(source))
        if not path.is_file():
            raise errors.InputError(f"the file {source} does not exist: correct its path")
        return _import_file(path)
    except errors.InputError as error:
        raise errors.InputError(f"environment {source}:{name}: {error}") from error
    except (Exception, SystemExit) as error:  # by the user's code
        raise errors.InputError(
            f"environment {source}:{name}: {source} cannot be imported ({errors.located(error)}): "
            "install or correct it"
        ) from error


def _import_file(path: pathlib.Path) -> ModuleType:
    """Imports a file under a name that depends on its path and content."""
    digest = hashlib.sha256(str(path).encode() + path.read_bytes()).hexdigest()[:16]
    name = f"valuelab_environment_{path.stem}_{digest}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        try:
            with warnings.catch_warnings():
                # An older form of the file may have registered the same environments.
                warnings.filterwarnings("ignore", message=".*Overriding environment", category=UserWarning)
                spec.loader.exec_module(sys.modules[name])
        except BaseException:
            del sys.modules[name]
            raise
    return sys.modules[name]


def _registered(module: ModuleType, registry: Mapping[str, Any]) -> Iterator[str]:
    """The ids of environments whose entry points lie in a module."""
    for name, spec in registry.items():
        entry = spec.entry_point
        place = re.split("[.:]", entry)[0] if isinstance(entry, str) else getattr(entry, "__module__", "")
        if place in (module.__name__, module.__name__.partition(".")[0]):
            yield name


def _defined(module: ModuleType, base: type) -> Iterator[str]:
    """The names of a module's own subclasses of a class."""
    for name, value in vars(module).items():
        if isinstance(value, type) and issubclass(value, base) and value.__module__ == module.__name__:
            yield name
