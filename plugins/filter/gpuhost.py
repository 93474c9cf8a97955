"""Filters that stand between Ansible's variables and the package `gpuhost`: they convert, the package decides.

What a filter returns may contain words of a host or of a lock. Ansible renders a plain string again whenever a variable
that holds it is used, so every result is marked unsafe here, and no other place has to think of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from ansible.errors import AnsibleFilterError
from ansible.utils.unsafe_proxy import wrap_var

from gpuhost.checks import benchmark as checks_benchmark
from gpuhost.checks.host import dpkg_busy
from gpuhost.errors import GpuhostError, UsageError
from gpuhost.planning import (
    contents,
    detector,
    lock,
    needs,
    plan,
    platforms,
    preflight,
    rebuild,
    rollback,
    service,
    specs,
    update,
    virtualbox,
)
from gpuhost.planning.catalog import shipped
from gpuhost.planning.offers import resolver_for
from gpuhost.planning.request import left_out, request_of, wishes
from gpuhost.planning.resolve import resolver
from gpuhost.report import terminal as render
from gpuhost.text import folder_name


def told(function: Callable[..., Any]) -> Callable[..., Any]:
    """Give a filter plain values, mark its result as no template, and turn the package's errors into Ansible's, in one
    paragraph.
    """

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        try:
            return wrap_var(function(*map(plain, args), **{name: plain(value) for name, value in kwargs.items()}))
        except GpuhostError as error:
            raise AnsibleFilterError(str(error)) from error

    return wrapped


def plain(value: Any) -> Any:
    """Return a value whose containers are Python's own: those of ansible-core 2.19 and later cannot be copied, which
    marking a result does.
    """
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    return value


def observed(observation: Dict[str, Any]) -> Dict[str, Any]:
    """Return an observation; an empty one, as a play has that left the role gpu_facts out, is an error."""
    if not observation:
        step = "Run the role gpu_facts before this one, and give it gpu_facts_observation."
        raise UsageError("Nothing was observed of this host.", step)
    return observation


def make_plan(
    observation: Dict[str, Any],
    host: str,
    asked: Any,
    ignore_gpus: bool = False,
    without: Any = (),
    options: Any = None,
) -> Dict[str, Any]:
    """Return the plan for an observed host in `lines`, and the `lock` that it makes with what the `options` ask for;
    None where no stack fits.
    """
    wanted = wishes(asked)
    over: Dict[str, Any] = {"gpus": []} if ignore_gpus else {}
    request = request_of(resolver(), observation, wanted, without=left_out(without), **over)
    made = plan.make(resolver_for(observation, wanted, bool(request.gpus)), request)
    lines = render.plan_text(made).splitlines()
    if made["status"] != "planned":
        return {"lines": lines, "lock": None}
    locked = with_options(lock.make(str(host), observation, made), options or {}, observation)
    held = locked["contents"].get(virtualbox.NAME)
    if held:
        lines += ["", *virtualbox.lines(held, observation["kernel"]["boots"], made["platform"])]
    return {"lines": lines, "lock": locked}


def with_options(locked: Dict[str, Any], given: Any, observation: Optional[Dict[str, Any]] = None) -> Dict[str, Any]:
    """Return a lock with what the options of the roles ask for besides; `{}` where there is none."""
    return contents.added(locked, contents.options(given), observation) if locked else {}


def differences(
    locked: Dict[str, Any], observation: Dict[str, Any], asked: Any, ignore_gpus: bool = False, without: Any = ()
) -> List[str]:
    """Return where the host, or what is asked of it, is no longer what the lock was made for; a wish that nobody can
    read is such a difference too.
    """
    try:
        wanted, absent = wishes(asked), left_out(without)
    except UsageError as error:
        return [f"asked: {error}"]
    return lock.differences(locked, observation, wanted, ignore_gpus, absent)


def lock_file(host: str, inventory: Any, locks: Any = "") -> str:
    """Return where the lock of a host is kept."""
    return str(lock.place(str(host), inventory, locks).file)


def read_lock(
    file: str, host: str, inventory: Any = None, relock: bool = False, required: bool = False
) -> Dict[str, Any]:
    """Return the lock of a host; `{}` when there is none and none is `required`, or when a new one is wanted."""
    place = lock.place(str(host), inventory, file=file)
    if required:
        return lock.load(place.file, str(host), place.former)
    if relock:
        lock.refuse_former(*place)
        return {}
    return lock.read(place.file, str(host), place.former)


def make_rebuild(
    observation: Dict[str, Any],
    host: str,
    file: str,
    asked: Any,
    ignore_gpus: bool,
    future: Any,
    rest: Any,
    there: Dict[str, Any],
    without: Any = (),
    options: Any = None,
) -> Dict[str, Any]:
    """Return what a rebuild of a host comes to; `file` is its lock's."""
    observed(observation)
    old, coming = lock.load(Path(file), str(host)), lock.pending(Path(file), str(host))
    cards = rebuild.wanted_cards(future, rest)
    wanted, absent, more = wishes(asked), left_out(without), contents.options(options or {})
    found = resolver_for(observation, wanted, bool(cards) or (bool(observation["gpus"]) and not ignore_gpus))
    made = rebuild.prepare(found, str(host), observation, old, coming, wanted, ignore_gpus, cards, there, absent, more)
    if made["refused"]:
        made["lines"] += ["", *render.plan_text(made["plan"]).splitlines()]
    return {**made, "future": cards, "command": rebuild.command(str(host))}


def make_update(
    observation: Dict[str, Any],
    host: str,
    file: str,
    asked: Any,
    ignore_gpus: bool = False,
    without: Any = (),
    options: Any = None,
) -> Dict[str, Any]:
    """Return what an update of a host's kernel and driver comes to, and the `file` of its lock."""
    observed(observation)
    old, coming = lock.load(Path(file), str(host)), lock.pending(Path(file), str(host))
    wanted = wishes(asked)
    found = resolver_for(observation, wanted, old["plan"]["driver"] is not None)
    more = contents.options(options or {})
    made = update.prepare(found, observation, old, coming, wanted, ignore_gpus, left_out(without), more)
    return {**made, "file": str(file)}


def make_rollback(observation: Dict[str, Any], host: str, file: str, to: Any, there: Dict[str, Any]) -> Dict[str, Any]:
    """Return what going back comes to; `file` is the lock's, which need not be there."""
    own = lock.read(Path(file), str(host)) or None
    return rollback.prepare(str(host), there, own, lock.pending(Path(file), str(host)), to, observed(observation))


def problems(
    host: str,
    inventory: Any = None,
    locks: Any = "",
    os_release: Optional[str] = None,
    core: str = "",
    observation: Optional[Dict[str, Any]] = None,
    installs: bool = False,
    untested: Any = "",
) -> Dict[str, Any]:
    """Return what forbids a run on a host (`problems`), what is worth a word (`remarks`), and whether its packages are
    being changed just now (`busy`), as far as what is given says.
    """
    found = [lock.former_problem(str(host), inventory, locks)]
    if os_release is not None:
        found.append(preflight.controller_problem(os_release, core))
    known = {"problems": [text for text in found if text], "remarks": [], "busy": False}
    if observation is None:
        return known
    observed(observation)
    return {
        "problems": known["problems"] + preflight.problems(observation, untested=str(untested) if installs else None),
        "remarks": preflight.remarks(observation),
        "busy": dpkg_busy(observation),
    }


def needs_of(
    observation: Dict[str, Any],
    host: str,
    file: str,
    there: Dict[str, Any],
    root: str,
    parts: Sequence[str],
    asked: Any,
    ignore_gpus: bool = False,
    without: Any = (),
    options: Any = None,
    relock: bool = False,
    to_come: Any = None,
) -> Dict[str, Any]:
    """Return what a host still needs before it has the `parts` of the `lock` in `to_come`, where one is known, else of
    its own lock, or of the one that would be made. `kernel` in it are the packages of a kernel that comes as well.

    Nothing where there will be none: a later step then refuses, with the reason.
    """
    coming = to_come or {}
    try:
        locked = coming.get("lock") or read_lock(file, host, relock=relock)
        if locked:
            locked = with_options(locked, options or {}, observation)
        else:
            locked = make_plan(observation, host, asked, ignore_gpus, without, options)["lock"] or {}
        kernel = coming.get("kernel", ())
        return needs.of(locked, observation, there, root, contents.options(options or {}), parts, kernel)
    except GpuhostError:
        return needs.nothing()


def taken_as(observation: Dict[str, Any], wanted: str) -> Dict[str, Any]:
    """Return the observation of a host of an unknown release as one of the wanted platform's."""
    return platforms.taken_as(shipped(), observation, str(wanted))


def make_benchmark(
    locked: Dict[str, Any],
    host: str,
    root: str,
    device: str,
    models: Sequence[str],
    photos: int,
    passes: int,
    published: bool = False,
    report: str = "",
    current: str = "",
) -> Dict[str, Any]:
    """Return the `device` and the `command` of a benchmark, the `folder` of a host's reports, and with a `report` the
    `name` under which it is kept there. Without a `device` it is the one that the lock is for.
    """
    device = device or checks_benchmark.device(locked)
    return {
        "device": device,
        "command": checks_benchmark.thorough(root, device, models, photos, passes, published),
        "folder": folder_name(host),
        "name": checks_benchmark.kept_as(report, current) if report else "",
    }


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> Dict[str, Callable[..., Any]]:
        """The filters by name."""
        return {
            "gpuhost_plan": told(make_plan),
            "gpuhost_lock": told(read_lock),
            "gpuhost_lock_file": told(lock_file),
            "gpuhost_lock_with": told(with_options),
            "gpuhost_lock_differences": told(differences),
            "gpuhost_rebuild": told(make_rebuild),
            "gpuhost_rollback": told(make_rollback),
            "gpuhost_update": told(make_update),
            "gpuhost_taken_as": told(taken_as),
            "gpuhost_specs": told(specs.of_lock),
            "gpuhost_problems": told(problems),
            "gpuhost_needs": told(needs_of),
            "gpuhost_detector": told(detector.files),
            "gpuhost_benchmark": told(make_benchmark),
            "gpuhost_service": told(service.asked),
        }
