"""Simulators that step at the same time, each in its own process, for simulators that are slow.

They are the environments of gymnasium's AsyncVectorEnv. They give the same numbers as in one process, because
a lane depends only on its seed and its actions.

Processes come from a server process without JAX threads, so that none inherits a lock that a thread holds.
They do not import the program that starts them, which may lack `if __name__ == "__main__"`. They ignore
Ctrl-C and SIGTERM, because a run that is stopped takes its last steps before it saves its state. They end
with their parent, even when it is killed.
"""

import contextlib
import io
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

import jax

from valuelab import errors, workers
from valuelab.environments import creation, host

_CONTEXT = "forkserver"
_CLOSING_SECONDS = 5.0
"""The time that processes have to close their environments before they are killed."""
_SILENT = 100
"""A level of gymnasium's logger above that of errors."""


def vector(name: str, make: Callable[[], Any], count: int) -> Any:
    """A new gymnasium.vector.VectorEnv whose environments live in processes.

    Args:
        name: the name, for messages.
        make: () -> a new gymnasium.Env; it is sent to the processes.
        count: the number of environments and of processes.

    Returns:
        The vector environment. Its steps and resets raise an InputError when an environment fails or a
        process ends.

    Raises:
        InputError: when the environment cannot be sent to a process or made there.
    """
    gymnasium = errors.require("gymnasium", "environments")

    class Parallel(gymnasium.vector.AsyncVectorEnv):  # type: ignore[name-defined]
        """Reports environments that fail and processes that end, and leaves no process behind."""

        def __init__(self) -> None:
            self.parent_pipes: list[Any] = []
            self.processes: list[Any] = []
            try:
                with (
                    errors.one_line(f"{name} cannot be made in a process", "leave out interaction.processes"),
                    _reported(name, self),
                    _without_main(),
                    creation.without_expected_warnings(),
                ):
                    super().__init__([_InProcess(name, make)] * count, context=_CONTEXT)
            except BaseException:
                _stop(self.parent_pipes, self.processes)
                raise
            # It is called at the end of the program, too, before multiprocessing waits for its processes.
            multiprocessing.util.Finalize(self, _stop, (self.parent_pipes, self.processes), exitpriority=1)

        def reset(self, **settings: Any) -> Any:
            with _reported(name, self):
                return super().reset(**settings)

        def step(self, actions: Any) -> Any:
            with _reported(name, self):
                return super().step(actions)

        def close_extras(self, **settings: Any) -> None:
            _stop(self.parent_pipes, self.processes)

    # The server imports this module once; its processes share it.
    multiprocessing.get_context(_CONTEXT).set_forkserver_preload([__name__, "gymnasium"])
    return Parallel()


class _InProcess:
    """Makes an environment, in a process that is first prepared for it.

    Attributes:
        name: the name, for messages.
        make: () -> a new gymnasium.Env.
        parent: the id of the process that starts the others.
    """

    def __init__(self, name: str, make: Callable[[], Any]):
        self.name, self.make, self.parent = name, make, os.getpid()

    def __call__(self) -> Any:
        if os.getpid() == self.parent:  # AsyncVectorEnv looks at the spaces of one environment
            return self.make()
        workers.end_with_parent()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        jax.config.update("jax_platforms", "cpu")  # the accelerator belongs to the learner
        creation.quieten()
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the parent says the same once
                return _named(self.name, self.make())
        except errors.InputError as error:
            sys.exit(f"error: {error}")


def _named(name: str, environment: Any) -> Any:
    """An environment whose errors are named in its process, as only their messages leave it."""
    gymnasium = errors.require("gymnasium", "environments")

    class Named(gymnasium.Wrapper):  # type: ignore[name-defined]
        """Turns exceptions into InputErrors."""

        def reset(self, **settings: Any) -> Any:
            with host.naming(name):
                return self.env.reset(**settings)

        def step(self, action: Any) -> Any:
            with host.naming(name):
                return self.env.step(action)

    return Named(environment)


@contextlib.contextmanager
def _reported(name: str, simulators: Any) -> Iterator[None]:
    """Turns the end of a process into an error; gymnasium does not log it as well."""
    logger: Any = errors.require("gymnasium.logger", "environments")
    level, logger.min_level = logger.min_level, _SILENT
    try:
        yield
    except (EOFError, OSError) as error:
        time.sleep(0.1)  # the exit status comes a little later
        ended = [process for process in simulators.processes if not process.is_alive()]
        if not ended:
            raise
        raise errors.InputError(
            f"{name}: the process of one of its environments ended with status {ended[0].exitcode}: read the "
            "lines before this one, and check whether memory ran out"
        ) from error
    finally:
        logger.min_level = level


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hides the running program, which processes would import otherwise."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main


def _stop(pipes: list[Any], processes: list[Any]) -> None:
    """Closes environments and ends their processes."""
    for pipe in pipes:
        with contextlib.suppress(OSError, AttributeError):  # the process has ended, or its pipe is None
            pipe.send(("close", None))
    end = time.monotonic() + _CLOSING_SECONDS
    for process in processes:
        if process.pid is not None:
            process.join(max(0.0, end - time.monotonic()))
            process.kill()
            process.join()
