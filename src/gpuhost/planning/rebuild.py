"""What another card means for a host: what changes in its stack and why, what that costs, and what is refused.

Pure: the lock, an observation, the new plan and what the caches hold go in; values and lines for a person come out.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, FrozenSet, List, Mapping, NamedTuple, Optional, Sequence, TypedDict, Union

from ..errors import UnreadableError, UsageError
from ..shapes.answers import Generations
from ..shapes.lock import Lock, LockedCard, Plan
from ..shapes.observation import Observation, ObservedGpu
from . import contents, words
from . import cost as rebuild_cost
from . import lock as locks
from . import plan as plans
from .candidates import COMPONENTS, NAMES, WITHOUT_GPU, Request
from .gpus import parse
from .request import request_from, request_of, secure_boot
from .resolve import Resolver
from .versions import specifier

PLAYBOOK = "./run ansible-playbook playbooks/rebuild.yml"


class Picked(TypedDict):
    """What other tools may want of a comparison: `changes` are rows of `Change`, as texts."""

    changes: List[Dict[str, str]]
    cost: rebuild_cost.Cost


class Compared(Picked):
    """What `compare` returns."""

    lines: List[str]


class _Rebuild(TypedDict):
    lock: Optional[Lock]
    differs: bool
    resumed: bool
    refused: str
    lines: List[str]


class Rebuild(_Rebuild, total=False):
    """What `prepare` returns: the plan of a refusal, or else what it comes to."""

    plan: Plan
    changes: List[Dict[str, str]]
    cost: rebuild_cost.Cost


class Change(NamedTuple):
    """One component of the old plan and of the new one; `why` is "" when both are the same."""

    name: str
    before: str
    after: str
    why: str


def seen_by(found: Resolver, observation: Observation) -> Observation:
    """The observation with "no answer" taken back for cards that the loaded driver does not drive (D13).

    Such a card is not dead: it waits for another driver. What a driver that should drive it cannot reach stays so.
    """
    loaded = str(observation["nvidia"]["module_version"] or "").split(".")[0]
    branch = found.catalog.drivers["branches"].get(loaded)
    rows = []
    for row in observation["gpus"]:
        generation = generation_of(found, str(row["pci_id"]))
        foreign = branch is not None and generation is not None and generation not in branch["generations"]
        rows.append({**row, "readable": None, "error": None} if foreign and row["readable"] is False else row)
    return {**observation, "gpus": rows}


def generation_of(found: Resolver, pci_id: str) -> Optional[str]:
    """The generation of the card with a PCI id; None where the catalog does not know it."""
    device = pci_id.partition(":")[2]
    return parse(found.catalog, pci_id).generation if device in found.catalog.gpus["devices"] else None


def refuse_dead(observation: Observation) -> None:
    """Refuse a card that is on the bus and does not answer the driver that is loaded for it: no stack fixes that."""
    nvidia = observation["nvidia"]
    # Where library and module are of two versions, nvidia-smi fails for every card; a rebuild or a reboot fixes it.
    if not nvidia["module_loaded"] or "mismatch" in nvidia["smi"]["message"]:
        return
    for row in observation["gpus"]:
        if row["readable"] is False:
            text = (
                f"The card at {row['pci_address']} ({row['pci_id']}) is on the PCI bus and does not answer the driver "
                f"{nvidia['module_version']}: {row['error']} Nothing was changed."
            )
            step = (
                "Look for 'Xid' or 'RmInitAdapter' in the kernel log (dmesg), power the machine off, reseat the card "
                "and its power cable. Take it out to rebuild for the cards that are left."
            )
            raise UnreadableError(text, step)


def request_for(
    found: Resolver,
    observation: Observation,
    asked: Dict[str, str],
    ignore_gpus: bool,
    future: Sequence[str],
    without: FrozenSet[str] = frozenset(),
) -> Request:
    """What to plan for: the cards of the observation, none, or those that are not in yet."""
    if future:
        cards = [parse(found.catalog, name) for name in future]
        read = {
            "kernel": observation["kernel"]["boots"],
            "secure_boot": secure_boot(observation),
            "avx": observation["cpu"]["avx"],
            "without": without,
        }
        return request_from(found, str(observation["platform"]["id"]), cards, asked, **read)
    return request_of(found, observation, asked, without=without, **({"gpus": []} if ignore_gpus else {}))


def lock_for(host: str, observation: Observation, plan: Plan, future: Sequence[str]) -> Lock:
    """The new lock. For cards that are not in yet it has no cards, so that it can never pass for a host's lock."""
    made = locks.make(host, observation, plan)
    return {**made, "cards": []} if future else made


def changes(found: Resolver, old: Plan, new: Plan, request: Request) -> List[Change]:
    """The components of two plans, each with the reason when it changes."""
    listed = []
    for name in COMPONENTS:
        before, after = old[name], new[name]
        if before is None and after is None and name in request.without:
            continue
        why = "" if before == after else reason(found, name, before, after, request)
        listed.append(Change(name, described(name, before), described(name, after), why))
    return listed


def described(name: str, part: Optional[Mapping[str, Any]]) -> str:  # Json: the component that `name` says
    """A component in a few words: its version, and what else can differ."""
    if part is None:
        return "none"
    more = [words.came_from(name, part) if name == "driver" else "", words.remark(name, part)]
    return "; ".join([str(part["version"]), *(text for text in more if text)])


def reason(
    found: Resolver,
    name: str,
    before: Optional[Mapping[str, Any]],  # Json: the component that `name` says
    after: Optional[Mapping[str, Any]],  # Json: the component that `name` says
    request: Request,
) -> str:
    """Why a component is another one for the present cards."""
    if after is None:
        return "it is not asked for any more" if name in request.without else "there is no card any more"
    if before is None:
        return "it was not asked for before" if name in WITHOUT_GPU else "there was no card before"
    if name == "opencv" and before["cuda_arch_bin"] and not after["cuda_arch_bin"]:
        return "there is no card any more to build for"
    if name == "opencv" and before["cuda_arch_bin"] != after["cuda_arch_bin"]:
        return f"built for {listed(before['cuda_arch_bin'])}, needed is {listed(after['cuda_arch_bin'])}"
    if name == "tensorflow" and before["version"] == after["version"] and before["python"] == after["python"]:
        return "the same files; they reach the new cards another way"
    if before["version"] == after["version"]:
        return "the same version from elsewhere, or made another way"
    return unfit(found, name, str(before["version"]), request) or "the catalog prefers another one for these cards"


def unfit(found: Resolver, name: str, version: str, request: Request) -> str:
    """Why the old version does not do for the new cards; "" when it would."""
    # Only this component is held: what the others would have to be then is not the question.
    held = replace(
        request,
        wanted={**request.wanted, name: specifier(name, version)},
        asked={**request.asked, name: version},
    )
    answer = plans.make(found, held)
    if answer["status"] == "planned":
        return ""
    # That it was asked for says nothing: what stands against it does.
    demands = {r.id for r in found.rules if r.about == "user"}
    told = [row["text"] for row in answer["reasons"] if row["rule"] not in demands]
    return f"{version} does not do" + (f": {told[0]}" if told else f", by these rules: {rules(answer)}")


def rules(answer: Plan) -> str:
    """The names of the rules that a refusal rests on."""
    return ", ".join(dict.fromkeys(str(row["rule"]) for row in answer["reasons"]))


def listed(values: Sequence[str]) -> str:
    """Values in one line."""
    return ", ".join(values) or "no card"


def compare(found: Resolver, old: Lock, new: Lock, request: Request, there: Generations) -> Compared:
    """Two locks side by side: `changes` (rows of texts), `cost` and `lines` for a person."""
    rows = changes(found, old["plan"], new["plan"], request)
    cost = rebuild_cost.of(old, new, there)
    return {"changes": [row._asdict() for row in rows], "cost": cost, "lines": [*table(rows), "", *cost["lines"]]}


def table(rows: Sequence[Change]) -> List[str]:
    """The components side by side as lines."""
    told = []
    for row in rows:
        if row.why:
            told += [f"{NAMES[row.name]}: {row.before}", f"    -> {row.after}", f"    because {row.why}"]
        else:
            told.append(f"{NAMES[row.name]}: stays as it is ({row.before})")
    return told


def cards(lock: Lock, observation: Observation) -> List[str]:
    """Locked and present cards, by address, id and uuid."""
    names = {row["pci_id"]: row["name"] for row in lock["plan"]["gpus"]}
    locked = [one_card(c, names.get(c["pci_id"])) for c in lock["cards"]] or ["no card"]
    present = [one_card(c, c["name"]) for c in observation["gpus"]] or ["no card"]
    return [f"locked:  {text}" for text in locked] + [f"present: {text}" for text in present]


def one_card(card: Union[LockedCard, ObservedGpu], name: Any) -> str:
    """A card in one line."""
    return f"{card['pci_address']} {card['pci_id']} {name or ''} {card['uuid'] or '(uuid not known)'}".replace(
        "  ", " "
    )


def prepare(
    found: Resolver,
    host: str,
    observation: Observation,
    old: Lock,
    pending: Optional[Lock],
    asked: Dict[str, str],
    ignore_gpus: bool,
    future: Sequence[str],
    there: Generations,
    without: FrozenSet[str] = frozenset(),
    options: contents.Options = contents.Options(),  # noqa: B008 - it is frozen
) -> Rebuild:
    """Everything that a rebuild has to know before it begins.

    `lock` is the new lock, None when none of it can be; `differs` says whether there is anything to do; `resumed`
    whether the new lock is that of an earlier, unfinished rebuild; `refused` why it cannot be, and `plan` then the plan
    with the reasons; `lines` tell it all.
    """
    observed = seen_by(found, observation)
    if not future:
        refuse_dead(observed)
    told = locks.differences(old, observation, asked, ignore_gpus, without)
    request = request_for(found, observed, asked, ignore_gpus, future, without)
    fits = pending is not None and not locks.differences(pending, observation, asked, ignore_gpus, without)
    resumed = fits and not future
    lines = [*cards(old, observation), *told]
    if pending is not None and resumed:
        new = pending
        lines.append("An earlier rebuild for these cards was not finished: it goes on with the lock it made.")
    else:
        made = plans.make(found, request)
        if made["status"] != "planned":
            refused = (
                "No stack fits the cards of this host; the reasons and what would do are above. Nothing was changed."
            )
            return {"lock": None, "differs": True, "resumed": False, "refused": refused, "lines": lines, "plan": made}
        new = lock_for(host, observation, made, future)
    new = contents.added(new, options, observed)
    differs = bool(told) or bool(future) or (resumed and pending != old)
    if not differs:
        new = old
    compared = compare(found, old, new, request, there)
    lines += ["", *compared["lines"]] if differs else []
    picked = pick(compared)
    return {
        "lock": new,
        "differs": differs,
        "resumed": resumed,
        "refused": "",
        "lines": lines,
        "changes": picked["changes"],
        "cost": picked["cost"],
    }


def pick(compared: Compared) -> Picked:
    """What other tools may want of a comparison."""
    return {"changes": compared["changes"], "cost": compared["cost"]}


def wanted_cards(text: Any, rest: Any = "") -> List[str]:
    """The cards that are not in yet: a name, several with commas between, or a list.

    `rest` is what Ansible makes of the words behind a blank: -e rebuild_future_gpu="RTX 3090" gives it RTX and 3090
    apart.
    """
    if text in (None, "", []):
        return []
    names = text if isinstance(text, list) else f"{text} {rest}".split(",")
    cleaned = [str(name).strip() for name in names]
    if not all(cleaned):
        raise UsageError(
            "rebuild_future_gpu names no card.", f'Write it as in: {PLAYBOOK} --check -e rebuild_future_gpu="RTX 3090"'
        )
    return cleaned


def command(host: str) -> str:
    """What a person types to have it done."""
    return f"{PLAYBOOK} --limit {host} -e rebuild_confirm={host}"
