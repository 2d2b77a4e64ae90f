from __future__ import annotations

import threading
from contextlib import ExitStack

import pytest

from erase.demo.turns import MOST, Turns
from erase.runtime.errors import UserError


def nobody(ahead: int) -> None:
    raise AssertionError(f"{ahead} ahead")


class Left(Exception):
    pass


def test_they_are_served_one_at_a_time_in_the_order_in_which_they_came() -> None:
    turns, served, waiting = Turns(), list[int](), threading.Semaphore(0)
    busy = 0

    def come(number: int) -> None:
        nonlocal busy
        with turns.turn(lambda ahead: waiting.release()):
            busy += 1
            assert busy == 1
            served.append(number)
            busy -= 1

    with turns.turn(nobody):
        threads = [threading.Thread(target=come, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
            assert waiting.acquire(timeout=10)  # it stands in the line before the next one comes
        assert served == []
        assert not turns.ended(0)
    for thread in threads:
        thread.join(10)
    assert served == [0, 1, 2, 3]
    assert turns.ended(0)


def test_who_leaves_makes_room() -> None:
    turns = Turns()

    def leave(ahead: int) -> None:
        assert ahead == 1
        raise Left

    with turns.turn(nobody):
        with pytest.raises(Left), turns.turn(leave):
            raise AssertionError("not its turn")
        assert len(turns.line) == 1
    with turns.turn(nobody):
        pass


def test_too_many_are_told_to_come_back() -> None:
    turns = Turns()
    turns.line.extend(object() for _ in range(MOST + 1))
    with pytest.raises(UserError, match=f"{MOST} others are waiting"), ExitStack() as stack:
        stack.enter_context(turns.turn(nobody))
    assert len(turns.line) == MOST + 1
