"""Find the circles in a graph of names, for flows' links and for schemas that name one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter


def cycles(graph: Mapping[str, Sequence[str]]) -> Iterator[list[str]]:
    """Cycles of the graph, each from its first node back to it; no two share their first edge.

    >>> list(cycles({"a": ["b"], "b": ["c"], "c": ["b"]}))
    [['b', 'c', 'b']]
    """
    rest = {node: list(targets) for node, targets in graph.items()}
    while (cycle := _cycle(rest)) is not None:
        yield cycle
        rest[cycle[0]] = [target for target in rest[cycle[0]] if target != cycle[1]]


def _cycle(graph: Mapping[str, Sequence[str]]) -> list[str] | None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        path = list(reversed(error.args[1]))[:-1]
        start = min(range(len(path)), key=lambda index: list(graph).index(path[index]))
        return [*path[start:], *path[:start], path[start]]
    return None
