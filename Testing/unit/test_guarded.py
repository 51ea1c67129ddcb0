"""The boundary with Qt and MRML: exceptions end there, are printed and told, and too many arguments are left out."""

import sys
from collections.abc import Iterator

import pytest

from SegWithUSlicerLib import guarded as boundary
from SegWithUSlicerLib.guarded import Problem, attempt, guarded


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Problem]]:
    """The problems that the panel hears of; nothing is printed."""
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    found: list[Problem] = []
    before = boundary._State.listener
    boundary.listen(found.append)
    yield found
    boundary.listen(before)


def _fails() -> None:
    raise ValueError("odd\nnumber")


def test_exception_is_printed_and_told(told: list[Problem], monkeypatch: pytest.MonkeyPatch) -> None:
    printed: list[type[BaseException]] = []
    monkeypatch.setattr(sys, "excepthook", lambda kind, _error, _trace: printed.append(kind))
    assert guarded(_fails)() is None
    assert printed == [ValueError]
    assert "(ValueError: odd number)" in told[0].message
    assert "Copy diagnostics" in told[0].message
    assert "in _fails: raise ValueError" in told[0].details
    assert boundary.last_problem() is told[0]


def test_listener_that_fails_too_is_survived(told: list[Problem]) -> None:
    boundary.listen(lambda _problem: _fails())
    guarded(_fails)()
    boundary.listen(None)
    guarded(_fails)()


def test_only_what_the_callback_takes_is_passed_on() -> None:
    """PythonQt looks at the function that it is given, which takes anything."""
    assert guarded(lambda: "none")(True) == "none"
    assert guarded(lambda value: value)(1, 2) == 1
    assert guarded(lambda *values: values)(1, 2, 3) == (1, 2, 3)
    assert guarded(lambda first, other=5: (first, other))(1) == (1, 5)

    class Panel:
        @guarded
        def click(self) -> str:
            return "clicked"

    assert Panel().click(True) == "clicked"  # type: ignore[call-arg]
    panel = Panel()
    assert panel.click == panel.click, "what was connected can be disconnected"


def test_all_steps_are_done_although_one_fails(told: list[Problem]) -> None:
    done: list[int] = []
    attempt(lambda: done.append(1), _fails, lambda: done.append(2))
    assert (done, len(told)) == ([1, 2], 1)


def test_only_exceptions_end_here(told: list[Problem]) -> None:
    def leaves() -> None:
        raise SystemExit

    with pytest.raises(SystemExit):
        guarded(leaves)()
    assert not told
