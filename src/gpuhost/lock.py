"""The lock: a plan written down for one host, in git, and the only thing the roles read.

It stands in `inventory/host_vars/<host>/stack.json` under the one key `gpuhost_lock`, so that Ansible loads it as that
host's variable. It holds no date and no path, so that the same host and catalog give the same bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any, Dict, List

import fastjsonschema

from .catalog import DATA, Json, validator
from .errors import LockError

SCHEMA = 1
KEY = "gpuhost_lock"
FILE = "stack.json"
#: Added to the file's name: the lock that a rebuild is carrying out. Ansible loads no file of this name as variables.
PENDING = ".new"


def make(host: str, observation: Json, plan: Json) -> Json:
    """The lock of a host: its plan, and the cards (address, id, uuid where it can be read) that it was made for."""
    cards = [] if not plan["gpus"] else cards_of(observation)
    return {"schema": SCHEMA, "host": host, "cards": cards, "plan": plan}


def cards_of(observation: Json) -> List[Json]:
    """What tells one card from another, by PCI address."""
    rows = [{"pci_address": g["pci_address"], "pci_id": g["pci_id"], "uuid": g["uuid"]} for g in observation["gpus"]]
    return sorted(rows, key=lambda r: str(r["pci_address"]))


def text(lock: Json) -> str:
    """The file's content."""
    return json.dumps({KEY: lock}, indent=2, ensure_ascii=False, sort_keys=False) + "\n"


def check(lock: Any, where: str) -> Json:
    """The lock, if it is one; a damaged or foreign one is a `LockError` that says what to do."""
    again = "Restore it from git, or make it anew: ./run ansible-playbook playbooks/plan.yml -e gpu_stack_relock=true"
    if not isinstance(lock, dict):
        raise LockError(f"The lock {where} is not a JSON object.", again)
    try:
        validator(DATA / "lock.schema.json")(lock)
    except fastjsonschema.JsonSchemaException as error:
        raise LockError(f"The lock {where} is damaged: {error}.", again) from None
    if lock["plan"]["status"] != "planned":
        raise LockError(f"The lock {where} holds no plan.", again)
    missing = [name for name in needed(lock["plan"]) if lock["plan"][name] is None]
    if not missing and "environment" not in lock["plan"]["opencv"] and not can_be_built(lock["plan"]):
        missing = ["source to build OpenCV from, or no CUDA to build it with"]
    if missing:
        raise LockError(f"The lock {where} is damaged: its plan has no {' and no '.join(missing)}.", again)
    return lock


def can_be_built(plan: Json) -> bool:
    """Does the plan of an OpenCV that no environment holds name the sources and the CUDA that it is built with?"""
    return plan["cuda"] is not None and bool(plan["opencv"].get("artifacts"))


def needed(plan: Json) -> List[str]:
    """The components that a plan must name: the frameworks, and with a card what stands under them."""
    return ["opencv", "tensorflow"] + (["driver", "cuda", "cudnn"] if plan["gpus"] else [])


def load(path: Path) -> Json:
    """Read a lock file; missing or damaged is a `LockError`."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise LockError(f"There is no lock {path}.", "Make one: ./run ansible-playbook playbooks/plan.yml") from None
    except (OSError, ValueError, RecursionError) as error:
        raise LockError(f"The lock {path} cannot be read: {error}.", "Restore it from git.") from None
    return check(value.get(KEY) if isinstance(value, dict) else None, str(path))


def differences(lock: Json, observation: Json, asked: Dict[str, str], ignore_gpus: bool = False) -> List[str]:
    """Where the host, or what is asked of it, is no longer what the lock was made for; empty when all agrees.

    A card counts as the same when its PCI id is; its uuid decides where both are known (another card of one model).
    """
    found = []
    plan = lock["plan"]
    if plan["platform"] != observation["platform"]["id"]:
        found.append(f"platform: locked {plan['platform']}, present {observation['platform']['id']}")
    present = [] if ignore_gpus else cards_of(observation)
    locked_ids, present_ids = (
        Counter(c["pci_id"] for c in lock["cards"]),
        Counter(c["pci_id"] for c in present),
    )
    gone, new = locked_ids - present_ids, present_ids - locked_ids
    if gone or new:
        found.append(f"cards: locked {listed(locked_ids)}, present {listed(present_ids)}")
    else:
        locked_uuids = {c["uuid"] for c in lock["cards"]}
        present_uuids = {c["uuid"] for c in present}
        if None not in locked_uuids | present_uuids and locked_uuids != present_uuids:
            found.append(
                f"cards: of the same model, but locked {', '.join(sorted(locked_uuids))}, "
                f"present {', '.join(sorted(present_uuids))}"
            )
    if plan["asked"] != asked:
        found.append(f"asked: locked for {demands(plan['asked'])}, now {demands(asked)}")
    return found


def listed(ids: Counter[str]) -> str:
    """Cards by id and number."""
    return ", ".join(f"{n} x {i}" if n > 1 else i for i, n in sorted(ids.items())) or "none"


def demands(asked: Dict[str, str]) -> str:
    """What is asked of the components, in words."""
    return ", ".join(f"{k} {v}" for k, v in sorted(asked.items())) or "nothing in particular"
