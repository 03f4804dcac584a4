"""Worker processes of a pool."""

import multiprocessing
import os
import threading


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
