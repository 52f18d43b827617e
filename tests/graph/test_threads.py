"""What belongs to the process: who may be in at once, who waits, and what is left behind."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from snn_lightning.graph.threads import Turns


class Switch:
    """A setting of the process, and how often it was set."""

    def __init__(self) -> None:
        self.value, self.history = "user's", list[str]()

    @contextmanager
    def set_to(self, wanted: str) -> Iterator[None]:
        before, self.value = self.value, wanted
        self.history.append(wanted)
        try:
            yield
        finally:
            self.value = before


def in_thread(function: object, *arguments: object) -> threading.Thread:
    thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
    thread.start()
    return thread


def test_one_thread_nests_as_it_likes_and_the_switch_is_put_back() -> None:
    switch = Switch()
    turns = Turns(switch.set_to)
    with turns.take("a"), turns.take("a"):
        with turns.take("b"):
            assert switch.value == "b"
        assert switch.value == "a"
    assert switch.history == ["a", "b", "a"]
    with pytest.raises(KeyError), turns.take("a"), turns.take("b"):
        raise KeyError
    assert switch.value == "user's"


def test_equal_wishes_go_in_together_and_the_last_puts_the_switch_back() -> None:
    switch, inside, leave = Switch(), threading.Barrier(2), threading.Event()
    turns = Turns(switch.set_to)

    def other() -> None:
        with turns.take("a"):
            inside.wait(10)
            leave.wait(10)

    thread = in_thread(other)
    with turns.take("a"):
        inside.wait(10)
    assert switch.value == "a"
    leave.set()
    thread.join(10)
    assert (switch.value, switch.history) == ("user's", ["a"])


def test_another_wish_waits_until_all_are_out() -> None:
    switch, seen, begun = Switch(), list[str](), threading.Event()
    turns = Turns(switch.set_to)

    def other() -> None:
        begun.set()
        with turns.take("b"):
            seen.append(switch.value)

    with turns.take("a"):
        thread = in_thread(other)
        begun.wait(10)
        thread.join(0.05)
        assert seen == []
        assert switch.value == "a"
    thread.join(10)
    assert seen == ["b"]


def test_threads_that_change_places_do_not_wait_for_each_other() -> None:
    """Both are in "a" and both want "b" inside: each gives up its place first."""
    switch, inside, seen = Switch(), threading.Barrier(2), list[str]()
    turns = Turns(switch.set_to)

    def change() -> None:
        with turns.take("a"):
            inside.wait(10)
            for _ in range(20):
                with turns.take("b"):
                    seen.append(switch.value)
                seen.append(switch.value)

    threads = [in_thread(change) for _ in range(2)]
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads)
    assert (seen.count("a"), seen.count("b"), switch.value) == (40, 40, "user's")
