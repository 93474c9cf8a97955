"""Locks for tests, made as the playbooks make them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

from gpuhost.planning import lock

Json = Dict[str, Any]
NO_CARDS: Json = {"gpus": [], "platform": {}}


def of(plan: Json, host: str = "box") -> Json:
    """The lock of a plan that no host was observed for."""
    return lock.make(host, NO_CARDS, plan)


def stack(value: Json) -> Json:
    """What stands in stack.json of a lock."""
    whole: Json = json.loads(lock.text(value))
    return whole


def save(file: Path, value: Json) -> Path:
    """Write a lock with its files, whatever is wrong with it; the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    for name, text in {**lock.files(value), file.name: lock.text(value)}.items():
        file.with_name(name).write_text(text, encoding="utf-8")
    return file
