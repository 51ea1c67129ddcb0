"""Keep track of observers, so that every one that was added is removed."""

import weakref
from collections.abc import Callable

import vtk


class Observations:
    """The observers that one object has placed on VTK objects.

    The callbacks are methods and held weakly: an owner that is dropped without `clear` stops reacting instead of
    living on, half taken apart, until the scene goes. Whoever owns an Observations still calls `clear` when done.
    """

    def __init__(self) -> None:
        self._tags: list[tuple[vtk.vtkObject, int]] = []

    def __len__(self) -> int:
        return len(self._tags)

    def add(self, watched: vtk.vtkObject, event: int | str, callback: Callable[..., None]) -> None:
        """Call the method `callback(watched, event)` at each such event until `remove` or `clear`."""
        method = weakref.WeakMethod(callback)

        def forward(caller: vtk.vtkObject, name: str) -> None:
            alive = method()
            if alive is not None:
                alive(caller, name)

        self._tags.append((watched, watched.AddObserver(event, forward)))

    def watches(self, watched: vtk.vtkObject) -> bool:
        """Check whether there is any observer of ours on the object."""
        return any(other is watched for other, tag in self._tags)

    def remove(self, watched: vtk.vtkObject) -> None:
        """Take our observers off one object."""
        kept = []
        for other, tag in self._tags:
            if other is watched:
                other.RemoveObserver(tag)
            else:
                kept.append((other, tag))
        self._tags = kept

    def clear(self) -> None:
        """Take all our observers off."""
        for watched, tag in self._tags:
            watched.RemoveObserver(tag)
        self._tags = []
