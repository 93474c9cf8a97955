"""Checks of the detection service: it runs what is in force, is ready, detects as the detector does, and refuses.

`seen["service"]` is what `host.probe.service` found. Where the generation in force has no service, none of them is
made: it is off unless somebody asks for it.
"""

import shlex
from typing import TYPE_CHECKING, Any, List, Mapping, Sequence, Union, cast

from ..host.service.places import SERVICE
from .base import Check, Outcome, held, on_host, skipped
from .lock import installed, part

if TYPE_CHECKING:
    from ..shapes.answers import Asked, Box, Error, ServiceAnswer
    from ..shapes.seen import Seen

PLAYBOOK = "./run ansible-playbook playbooks/service.yml"
#: What its checks begin with, and the name of its link in a generation.
SUBJECT = "service"
#: Boxes of the same photo on the same device differ by rounding alone.
SAME_BOX = 0.99
NOT_ROOT = "only root may read the key that verify/ posts its photo with: run it as root, or with become"
_RESTART = on_host(f"systemctl restart {SERVICE}")
_REFUSALS = (
    ("no_key", 401, "a photo without a key"),
    ("wrong_key", 401, "a key that nobody has"),
    ("too_large", 413, "a body above the limit"),
    ("bomb", 400, "a WebP of 38 bytes with 268 million pixels"),
)


def service(seen: "Seen") -> "ServiceAnswer":
    """What was collected of the service; only an `error` where it could not be asked."""
    return seen["service"]


def is_there(seen: "Seen") -> bool:
    """Return whether the generation in force has the service."""
    return SUBJECT in seen["machine"].get("installed", {}).get("links", {})


def unit(seen: "Seen") -> Outcome:
    """Check that the service of the generation in force runs, and does so again after a boot."""
    found, number = cast("Union[ServiceAnswer, Error]", service(seen)), installed(seen)["generation"]
    required = f"{SERVICE} runs from generation {number}, now and after a boot"
    if "error" in found:
        return held(False, required, found["error"], PLAYBOOK)
    if not found["active"]:
        return held(False, required, f"it does not run: {found['last_words'] or 'it has said nothing'}", PLAYBOOK)
    if found["generation"] != number:
        return held(False, required, f"it runs from generation {found['generation']}", _RESTART)
    if not found["enabled"]:
        return held(False, required, "it is not started at the next boot", PLAYBOOK)
    return held(True, required, f"generation {number}", "")


def ready(seen: "Seen") -> Outcome:
    """Check that the service says of itself that it takes photos."""
    found, required = service(seen)["ready"], "the service has proved its device and takes photos"
    if found.get("denied"):
        return skipped(required, NOT_ROOT)
    if "error" in found:
        return held(False, required, found["error"], _RESTART)
    return held(found["status"] == 200, required, found["why"] or "ready", _RESTART)


def asked(seen: "Seen") -> "Union[Error, Asked]":
    """What came of asking it as a client does; an `error` where nobody answered."""
    return cast("Union[Error, Asked]", service(seen)["asked"] or {})


def detects(seen: "Seen") -> Outcome:
    """Check that a photo gets the boxes through nginx that the detector finds by itself, on the device of the lock."""
    device = seen["expected"]["device"]
    required = f"a photo is answered as the detector answers it, on {device}"
    if service(seen)["asked"] is None:
        return skipped(required, NOT_ROOT)
    found = asked(seen)
    if "error" in found:
        return held(False, required, found["error"], PLAYBOOK)
    photo, own = found["photo"], found["detector"]
    answer = photo["answer"] or {}
    if photo["status"] != 200 or not isinstance(answer.get("detections"), list):
        return held(False, required, f"it is answered with status {photo['status']}", _RESTART)
    on = str((found["models"]["answer"] or {}).get("device"))
    if not on.startswith("cuda") if device == "cuda" else on.startswith("cuda"):
        return held(False, required, f"it computes on {on}", PLAYBOOK)
    if "error" in own:
        return held(False, required, f"the detector itself says: {own['error']}", PLAYBOOK)
    rows, wanted = answer["detections"], own["detections"]
    told = difference(rows, wanted)
    weights = "" if answer.get("meaningful") else ", with weights that detect nothing meaningful"
    return held(not told, required, told or f"{len(rows)} boxes{weights}, on {on}", _RESTART)


def difference(rows: "Sequence[Box]", wanted: "Sequence[Box]") -> str:
    """Return where two lists of boxes are not the same; "" where they are."""
    if len(rows) != len(wanted):
        return f"it finds {len(rows)} boxes, the detector {len(wanted)}"
    for one, other in zip(ordered(rows), ordered(wanted)):
        shared = overlap(one["box"], other["box"])
        if one["label"] != other["label"] or shared < SAME_BOX:
            return f"it finds {one['label']} where the detector finds {other['label']}; they share {shared:.2f}"
    return ""


def ordered(rows: "Sequence[Box]") -> "List[Box]":
    """Return boxes in an order that rounding does not change."""
    return sorted(rows, key=lambda row: (str(row["label"]), [round(float(value)) for value in row["box"]]))


def overlap(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the part of two boxes (left, top, width, height) that both cover: 1 where they are the same."""
    widths = min(one[0] + one[2], other[0] + other[2]) - max(one[0], other[0])
    heights = min(one[1] + one[3], other[1] + other[3]) - max(one[1], other[1])
    common = max(widths, 0.0) * max(heights, 0.0)
    both = one[2] * one[3] + other[2] * other[3] - common
    return float(common / both) if both > 0 else float(list(one) == list(other))


def refuses(seen: "Seen") -> Outcome:
    """Check that what must be refused is."""
    required = "; ".join(f"{what}: {status}" for _, status, what in _REFUSALS)
    if service(seen)["asked"] is None:
        return skipped(required, NOT_ROOT)
    found: Mapping[str, Any] = asked(seen)
    told = [f"{what} gets {found[name]}" for name, status, what in _REFUSALS if found[name] != status]
    return held(not told, required, "; ".join(told) or "each refused", PLAYBOOK)


def exposed(seen: "Seen") -> Outcome:
    """Check that nginx listens where it was told to, and the service nowhere in the network."""
    found = service(seen)
    if found["record"] is None:
        return held(False, "it is reached where service_listen says", "there is no record of where that is", PLAYBOOK)
    where, _, port = str(found["record"]["listen"]).rpartition(":")
    address, required = where.strip("[]"), f"it is reached at {found['record']['listen']} and nowhere else"
    there = [row for row in found["sockets"]["listening"] if row.split()[1] == port]
    others = [row for row in there if row.split()[0] != address]
    if found["sockets"]["service"]:
        told = "the service itself listens at " + ", ".join(found["sockets"]["service"])
    elif others:
        told = "something listens at " + ", ".join(row.replace(" ", " port ") for row in others)
    elif not there:
        told = f"nothing listens at port {port}"
    else:
        return held(True, required, f"port {port} at {address}", "")
    return held(False, required, told, PLAYBOOK)


def nginx(seen: "Seen") -> Outcome:
    """Check that nginx serves the site, takes its configuration and gets its updates."""
    found, required = service(seen)["nginx"], "nginx runs with the service's site, and its updates come"
    if not found["there"]:
        return held(False, required, "it is not installed", PLAYBOOK)
    if found["complaint"]:
        step = on_host("nginx -t", PLAYBOOK)
        return held(False, required, f"it does not take its configuration: {found['complaint']}", step)
    if not found["site"]:
        return held(False, required, "the service's site is not there", PLAYBOOK)
    if not found["active"]:
        return held(False, required, "it does not run", on_host("systemctl restart nginx"))
    if found["held"]:
        names = " ".join(map(shlex.quote, sorted(found["held"])))
        return held(False, required, f"on hold, so that no repair comes: {names}", on_host(f"apt-mark unhold {names}"))
    return held(True, required, "it runs", "")


CHECKS = (
    part(
        "service.installed", SUBJECT, "The detection service", needs=("opencv.computes", "detector.installed")
    )._replace(part=SUBJECT, sources=()),
    Check(
        "service.nginx",
        "nginx serves the detection service",
        "An update or another site can break the configuration that is read at the next start only.",
        nginx,
        (),
        ("service.installed",),
        SUBJECT,
    ),
    Check(
        "service.exposed",
        "The detection service is reached where it should be",
        "Who can reach it can send it pictures: an address more is a network more.",
        exposed,
        (),
        ("service.nginx",),
        SUBJECT,
    ),
    Check(
        "service.unit",
        "The detection service of the generation in force runs",
        "A process that was not restarted serves the stack of before.",
        unit,
        (),
        ("service.installed",),
        SUBJECT,
    ),
    Check(
        "service.ready",
        "The detection service is ready",
        "A process that runs can have lost its card.",
        ready,
        (),
        ("service.unit",),
        SUBJECT,
    ),
    Check(
        "service.detects",
        "The detection service detects",
        "Only a photo that went the whole way, and the same boxes at its end, show that it does its work.",
        detects,
        (),
        ("service.ready", "service.exposed"),
        SUBJECT,
    ),
    Check(
        "service.refuses",
        "The detection service refuses",
        "Without keys and limits anybody who reaches it can read of it what he likes, and stop it.",
        refuses,
        (),
        ("service.detects",),
        SUBJECT,
    ),
)
