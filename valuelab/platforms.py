"""The platform a program is traced for: CPUs and accelerators are fastest with different forms of some code.

`training.loop.make_program` traces for the platform of its mesh, which may be another than that of this
machine: programs are also compiled for devices that are only described (`training.topologies`).
"""

import contextlib

import jax

_PLATFORM = jax.make_user_context(None)  # part of the key of JAX's caches: no trace is reused for another one


def current() -> str:
    """The platform of the program that is being traced: "cpu", "gpu" or "tpu".

    Outside `tracing_for` it is the platform on which JAX computes by default.
    """
    return _PLATFORM.value or jax.default_backend()


def on_cpu() -> bool:
    """Whether the program that is being traced is for a CPU."""
    return current() == "cpu"


def tracing_for(platform: str) -> contextlib.AbstractContextManager[None]:
    """What is traced inside this context is for a platform, given as `current` returns it."""
    if platform == current():  # the traces made so far stay valid
        return contextlib.nullcontext()
    return _PLATFORM(platform)  # type: ignore[no-any-return]
