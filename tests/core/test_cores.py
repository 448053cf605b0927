"""Work on all cores."""

import threading

import pytest

from vit_core import cores
from vit_core.cores import on_all_cores


@pytest.fixture(autouse=True)
def three_cores(monkeypatch):
    monkeypatch.setattr(cores, "core_count", lambda: 3)


def test_results_come_in_order_and_from_several_threads():
    meeting = threading.Barrier(3, timeout=30)

    def work(item):
        if item < 3:
            meeting.wait()
        return item, threading.current_thread().name

    results = on_all_cores(work, range(50), "workers")
    assert [item for item, _ in results] == list(range(50))
    assert {name for _, name in results[:3]} == {"workers", threading.current_thread().name}
    assert not [thread for thread in threading.enumerate() if thread.name == "workers"]


def test_the_error_of_the_first_item_is_raised_and_no_further_item_is_begun():
    begun, failed = [], threading.Event()

    def work(item):
        begun.append(item)
        if item == 0:
            failed.wait(30)  # until a later item has failed
        failed.set()
        raise ValueError(item)

    with pytest.raises(ValueError, match="^0$"):
        on_all_cores(work, range(50), "workers")
    assert len(begun) <= 3


def test_one_item_takes_no_thread():
    assert on_all_cores(lambda _: threading.current_thread(), [1], "workers") == [threading.current_thread()]


def test_work_is_done_where_no_thread_may_be_had(monkeypatch):
    def refuse(_):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert on_all_cores(str, [1, 2, 3], "workers") == ["1", "2", "3"]
