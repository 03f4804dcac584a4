"""Workers of a pool, and the cores that they share."""

import multiprocessing
import os
import threading


def available_cores() -> list[int]:
    """The cores that this process may use; all cores where it cannot be asked, as on macOS."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def end_with_parent() -> None:
    """Ends this worker when its parent ends, also if the parent is killed; the initializer of a pool.

    Otherwise a worker whose parent was killed waits forever, because it holds both ends of its queue.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
