"""`${NAME}` in settings and in an integration's parameters takes an environment variable."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from membrane_sync.project.located import Block, Items, Steps, leaves

_VARIABLE = re.compile(r"\$\{(\w+)\}")


def expanded(value: Any, environ: Mapping[str, str]) -> Any:
    """The value with its variables in place; those that aren't set stay as they are written.

    >>> expanded({"url": "${HOST}/api"}, {"HOST": "https://crm.example"})
    {'url': 'https://crm.example/api'}
    """
    if isinstance(value, str):
        return _VARIABLE.sub(lambda match: environ.get(match[1], match[0]), value)
    if isinstance(value, Block):
        block = Block(value.mark)
        for key, item in value.items():
            block.put(key, expanded(item, environ), value.marks[key])
        return block
    if isinstance(value, Items):
        items: Iterable[Any] = (expanded(item, environ) for item in value)
        return Items(value.mark, zip(items, value.marks, strict=True))
    if isinstance(value, dict):
        return {key: expanded(item, environ) for key, item in value.items()}
    return [expanded(item, environ) for item in value] if isinstance(value, list) else value


def unset(block: Block, environ: Mapping[str, str]) -> Iterator[tuple[Steps, str]]:
    """Where the block uses variables that aren't set, and what to say there."""
    for path, value, _ in leaves(block):
        for name in _VARIABLE.findall(value) if isinstance(value, str) else ():
            if name not in environ:
                yield path, f"${{{name}}} is not set in the environment"
