"""Nodes of a scene, and observers on them: every one that was added is removed."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import slicer
import vtk

from ..guarded import guarded


def nodes_of(scene: "slicer.vtkMRMLScene", kind: str) -> list["slicer.vtkMRMLNode"]:
    """List the nodes of a class in a scene, in its order."""
    return [scene.GetNthNodeByClass(index, kind) for index in range(scene.GetNumberOfNodesByClass(kind))]


class Observations:
    """The observers that one object has placed on VTK objects.

    The callbacks are methods and held weakly: an owner that is dropped without `clear` stops reacting instead of
    staying alive, partly closed, until the scene is deleted. The owner still calls `clear` when
    done.
    """

    def __init__(self) -> None:
        self._tags: list[tuple[vtk.vtkObject, int]] = []
        self._is_paused = False

    def __len__(self) -> int:
        return len(self._tags)

    def add(
        self, watched: vtk.vtkObject, event: int | str, callback: Callable[..., None], with_node: bool = False
    ) -> None:
        """Call the method `callback(watched, event)` at each such event until `remove` or `clear`.

        Args:
            with_node: the event is about a node, which is the third argument of the callback.
        """
        # Weakly too: a circle through a VTK object ends in a crash when it is collected.
        method, account = weakref.WeakMethod(callback), weakref.ref(self)

        def forward(caller: vtk.vtkObject, name: str, *node: vtk.vtkObject) -> None:
            alive, observations = method(), account()
            if alive is not None and observations is not None and not observations._is_paused:
                alive(caller, name, *node)

        if with_node:
            forward.CallDataType = vtk.VTK_OBJECT  # type: ignore[attr-defined]  # VTK reads it
        self._tags.append((watched, watched.AddObserver(event, guarded(forward))))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Call nothing back in this block: the owner makes the changes itself. Blocks may be nested."""
        was_paused, self._is_paused = self._is_paused, True
        try:
            yield
        finally:
            self._is_paused = was_paused

    def watches(self, watched: vtk.vtkObject) -> bool:
        """Check whether there is any observer of ours on the object."""
        return any(other is watched for other, tag in self._tags)

    def clear(self) -> None:
        """Take all our observers off."""
        for watched, tag in self._tags:
            watched.RemoveObserver(tag)
        self._tags = []
