"""Reading the store: the generation in force and what it was made from. What is there and cannot be read is a problem.

Runs on the target: Python 3.6, standard library. Reads only.
"""

from pathlib import Path
from typing import Optional

from ...types import Json
from .. import store
from ..edges import Edges


def in_force(edges: Edges, root: str) -> Optional[int]:
    """Return the number of the generation in force; None without one, which is a problem where `current` is there."""
    there = edges.exists(f"{root}/current")
    number = store.current_generation(Path(str(edges.path(root))))
    if number is None and there:
        edges.problem(f"{root}/current", "It does not lead to a generation.")
    return number


def stack(edges: Edges, root: str, number: int) -> Optional[Json]:
    """Return the lock that a generation was made from; None, and a problem, where it cannot be read."""
    name = f"{root}/generations/{number}/stack.json"
    if not edges.exists(name):
        edges.problem(name, "It is not there.")
    return edges.record(name)
