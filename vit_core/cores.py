"""Work on all cores that this process may use, in threads that live no longer than the call."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Lock, Thread
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def core_count() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_all_cores(function: Callable[[Item], Result], items: Sequence[Item], name: str) -> list[Result]:
    """Apply a function to every item; it gains what it spends in code that lets other threads work.

    The calling thread does its share, so that one item costs no thread. Nothing is left that a fork could break.

    Args:
        function: what to do. When it raises, no further item is begun.
        items: of what; begun in their order.
        name: of the threads.

    Returns:
        What the function returns, in order.

    Raises:
        BaseException: what it raised; of several errors that of the first item.
    """
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    positions, taking = iter(range(len(items))), Lock()

    def work() -> None:
        position = -1
        try:
            while not errors:
                with taking:
                    position = next(positions, len(items))
                if position == len(items):
                    return
                results[position] = function(items[position])
        except BaseException as error:  # raised below, in the thread that waits for it
            errors[position] = error

    threads = [Thread(target=work, name=name, daemon=True) for _ in range(min(len(items), core_count()) - 1)]
    try:
        with suppress(RuntimeError):  # where no more threads may be had, there is still this one
            for thread in threads:
                thread.start()
        work()
        for thread in threads:
            if thread.ident is not None:
                thread.join()
    except BaseException as error:  # Ctrl-C: the others are not to go on
        errors[len(items)] = error
        raise
    if errors:
        first = errors[min(errors)]
        errors.clear()  # an error that holds this frame, which holds the error, would live on
        raise first
    return [results[position] for position in range(len(items))]
