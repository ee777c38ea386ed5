"""Threads that Ctrl-C leaves in order, whenever it comes.

Python raises an interrupt between any two steps of the main thread, also of those of
`threading` and `concurrent.futures`. Their locks may then stay taken: a thread waits
for one for ever, and the caller for the thread. So a caller of this module waits at
queues written in C, which give an interrupt no step to come between, takes no lock,
and has its threads started by another one, where no interrupt comes.
"""

import _thread
import threading
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ["Threads"]

_T = TypeVar("_T")

_SECONDS = 0.1  # how late a signal is heeded that came just before a wait


class Threads:
    """Do tasks in the order they came, in at most `n_threads` threads.

    As an interrupt may come inside `end` as well, it is called twice:

    >>> threads = Threads(2)
    >>> try:
    ...     half = threads.begin(divmod, 7, 2)
    ...     found = half()
    ...     threads.end()
    ... except BaseException:
    ...     threads.end()
    ...     raise
    >>> found
    (3, 1)
    """

    def __init__(self, n_threads: int) -> None:
        self._n_threads = n_threads
        self._tasks: SimpleQueue[Any] = SimpleQueue()
        self._threads: list[_Thread] = []

    def begin(self, work: Callable[..., _T], *args: Any) -> Callable[[], _T]:
        """Have `work(*args)` done; give a function that waits for what it returns."""
        answer: SimpleQueue[Any] = SimpleQueue()
        self._tasks.put((work, args, answer))
        if len(self._threads) < self._n_threads:
            self._threads.append(_Thread(self._tasks))
            _thread.start_new_thread(copy_context().run, (self._threads[-1].start,))
        return partial(_result, answer)

    def end(self) -> None:
        """Drop what nobody has begun, wait for the rest; again, if interrupted."""
        with suppress(Empty):
            while True:
                self._tasks.get_nowait()
        self._tasks.put(None)  # handed from thread to thread
        for thread in self._threads:
            thread.wait()


class _Thread:
    """One thread, which does tasks until it finds None."""

    def __init__(self, tasks: SimpleQueue[Any]) -> None:
        self._tasks = tasks
        self._thread = threading.Thread(target=self._work)
        self._fate: dict[str, bool] = {}  # `setdefault` lets one thread decide it
        self._has_ended = False
        self._news: SimpleQueue[None] = SimpleQueue()

    def start(self) -> None:
        """Begin, unless `wait` was there first; run where no interrupt comes."""
        if not self._fate.setdefault("begins", True):
            return
        try:
            self._thread.start()
        except Exception as error:  # noqa: BLE001 - raised in `_result`
            self._work(error)

    def wait(self) -> None:
        """Wait until the thread has ended; one that has not begun never will."""
        if not self._fate.setdefault("begins", False):
            return
        while not self._has_ended:  # set before the news, should an interrupt lose them
            _take(self._news)
        if self._thread.ident is not None:
            self._thread.join()

    def _work(self, refusal: Exception | None = None) -> None:
        while self._do_next(refusal):
            pass
        self._has_ended = True
        self._news.put(None)

    def _do_next(self, refusal: Exception | None) -> bool:
        """Do one task; what it held is let go of before the next is waited for."""
        task = self._tasks.get()
        if task is None:
            self._tasks.put(None)
            return False
        work, args, answer = task
        if refusal is not None:
            answer.put((None, refusal))
            return True
        try:
            answer.put((work(*args), None))
        except BaseException as error:  # noqa: BLE001 - raised in `_result`
            answer.put((None, error))
        return True


def _result(answer: SimpleQueue[Any]) -> Any:
    result, error = _take(answer)
    if error is None:
        return result
    try:
        raise error
    finally:
        del error  # whose traceback holds this frame


def _take(queue: SimpleQueue[Any]) -> Any:
    """Wait, in short turns: a signal that came just before one does not end it."""
    while True:
        with suppress(Empty):
            return queue.get(timeout=_SECONDS)
