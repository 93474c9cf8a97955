"""The part "hooks" of the service's settings: cameras, rules, counts and where alerts go. Pure.

Everything is checked when the settings are read, so that a mistake is one sentence at the start instead of a hook that
stays silent: a key that nobody knows is a mistake as well.
"""

import ipaddress
import math
import re
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Callable, Dict, FrozenSet, Optional, Tuple
from urllib.parse import urlsplit

from ..credentials import without_secrets
from ..errors import UsageError
from ..text import printable
from ..types import Json
from .settings import NAME, Settings

Point = Tuple[float, float]

#: What a camera may be called: the name becomes a column of a table and a word in an alert, and is never a path.
CAMERA = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
LOOPBACK_NAMES = ("localhost",)
#: A shorter secret can be guessed from one signed alert.
SHORTEST_SECRET = 16
_STEP = "Correct the settings of the hooks, then restart the service."


@dataclass(frozen=True)
class Rule:
    """What of a camera's pictures is worth an alert or a count.

    `polygon` is in fractions of the picture's sides; without one the whole picture counts. `pictures` and `moved` say
    when an object has passed: it was seen in so many pictures of one event, or went that part of the width (up and
    down: of the height).
    """

    labels: Optional[FrozenSet[str]] = None
    score: float = 0.5
    polygon: Tuple[Point, ...] = ()
    cooldown_s: float = 60.0
    pictures: int = 2
    moved: float = 0.1


@dataclass(frozen=True)
class Receiver:
    """Where alerts are posted to, and the secret that signs them. `ca` is a file of certificates to trust instead."""

    url: str
    secret: str
    ca: Optional[Path] = None

    def __repr__(self) -> str:
        """Say where, and not the secret: settings are printed in tracebacks and logs."""
        return f"Receiver({without_secrets(self.url)!r})"


@dataclass(frozen=True)
class HookSettings:
    """All of them. Without any, or with `enabled` false, there are no hooks.

    `depth`, `per_camera` and `waiting_megabytes` bound the pictures that wait, `alert_depth` the alerts of a receiver.
    """

    enabled: bool = True
    database: Path = Path("/var/lib/gpuhost-detect/counts.db")
    days: int = 30
    megabytes: int = 64
    depth: int = 64
    per_camera: int = 8
    waiting_megabytes: int = 64
    event_gap_s: float = 120.0
    model: Optional[str] = None
    rule: Rule = Rule()
    cameras: Dict[str, Rule] = field(default_factory=dict)
    alerts: Tuple[Receiver, ...] = ()
    alert_depth: int = 64

    def rule_of(self, device: str, camera: str) -> Rule:
        """Return the rule of one camera of one device."""
        return self.cameras.get(f"{device}/{camera}", self.rule)


def of(settings: Settings) -> HookSettings:
    """Return the hooks' part of the service's settings; `UsageError` for what is not possible."""
    found = from_json(settings.hooks)
    names = [one.name for one in settings.models]
    if found.model is not None and found.model not in names:
        raise wrong("hooks.model", f"one of the models: {', '.join(names)}")
    return found


def from_json(value: Any) -> HookSettings:
    """Return the settings in a JSON object; `UsageError` names the first one that is not possible."""
    given = _object(value, "hooks", [f.name for f in fields(HookSettings)])
    if not given:
        return HookSettings(enabled=False)
    rule = _rule(given.get("rule", {}), Rule(), "hooks.rule")
    cameras = _object(given.get("cameras", {}), "hooks.cameras")
    readers: Dict[str, Callable[[Any, str], Any]] = {
        "enabled": _flag,
        "database": _path,
        "days": _whole(1, 3660),
        "megabytes": _whole(1, 100000),
        "depth": _whole(1, 10000),
        "per_camera": _whole(1, 10000),
        "waiting_megabytes": _whole(1, 100000),
        "event_gap_s": _number(1, 86400),
        "model": _optional_text,
        "alerts": _receivers,
        "alert_depth": _whole(1, 10000),
    }
    read = {name: readers[name](given[name], f"hooks.{name}") for name in given if name in readers}
    rules = {_camera(name): _rule(one, rule, f"hooks.cameras.{printable(name, 90)}") for name, one in cameras.items()}
    return HookSettings(rule=rule, cameras=rules, **read)


def wrong(where: str, must: str) -> UsageError:
    """Return the error for a setting that is not what it must be."""
    return UsageError(f"The setting {where} must be {must}.", _STEP)


def _object(value: Any, where: str, known: Optional[Any] = None) -> Json:
    """Return a JSON object; with `known` it holds no other keys."""
    if not isinstance(value, dict):
        raise wrong(where, "an object")
    for key in value:
        if known is not None and key not in known:
            raise UsageError(f"{where} has no setting '{printable(key, 40)}'; it has {', '.join(known)}.", _STEP)
    return value


def _camera(name: str) -> str:
    """Return the name of a rule's camera, which is DEVICE/CAMERA."""
    device, _, camera = name.partition("/")
    if not NAME.fullmatch(device) or not CAMERA.fullmatch(camera):
        must = "DEVICE/CAMERA: the name of the device's key, then the camera's, of letters, digits, _ and -"
        raise wrong(f"hooks.cameras: the key '{printable(name, 90)}'", must)
    return name


def _rule(value: Any, default: Rule, where: str) -> Rule:
    """Return a rule; what it does not say is as in `default`."""
    readers: Dict[str, Callable[[Any, str], Any]] = {
        "labels": _labels,
        "score": _number(0, 1),
        "polygon": _polygon,
        "cooldown_s": _number(0, 86400),
        "pictures": _whole(2, 100),
        "moved": _number(0.01, 1),
    }
    given = _object(value, where, [f.name for f in fields(Rule)])
    return replace(default, **{name: readers[name](given[name], f"{where}.{name}") for name in given})


def _whole(least: int, most: int) -> Callable[[Any, str], int]:
    """Return the reader of a whole number in a range."""

    def read(value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise wrong(where, f"a whole number from {least} to {most}")
        return value

    return read


def _number(least: float, most: float) -> Callable[[Any, str], float]:
    """Return the reader of a number in a range."""

    def read(value: Any, where: str) -> float:
        fits = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not fits or not least <= value <= most:
            raise wrong(where, f"a number from {least:g} to {most:g}")
        return float(value)

    return read


def _flag(value: Any, where: str) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise wrong(where, "true or false")
    return value


def _path(value: Any, where: str) -> Path:
    """Return an absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or "\0" in value:
        raise wrong(where, "an absolute path")
    return Path(value)


def _optional_text(value: Any, where: str) -> Optional[str]:
    """Return a name, or None."""
    if value is not None and (not isinstance(value, str) or not value):
        raise wrong(where, "a name or null")
    return value


def _labels(value: Any, where: str) -> Optional[FrozenSet[str]]:
    """Return the wanted labels; null means each."""
    if value is None:
        return None
    if not isinstance(value, list) or not value or not all(isinstance(row, str) and row for row in value):
        raise wrong(where, "a list of labels, or null for all of them")
    return frozenset(value)


def _polygon(value: Any, where: str) -> Tuple[Point, ...]:
    """Return the corners of a polygon; an empty list means the whole picture."""
    must = "a list of at least three corners [x, y], each from 0 to 1 of the picture's width and height"
    if not isinstance(value, list) or len(value) in (1, 2) or len(value) > 100:
        raise wrong(where, must)
    side = _number(0, 1)
    for corner in value:
        if not isinstance(corner, list) or len(corner) != 2:
            raise wrong(where, must)
    return tuple((side(x, where), side(y, where)) for x, y in value)


def _receivers(value: Any, where: str) -> Tuple[Receiver, ...]:
    """Return where alerts go."""
    if not isinstance(value, list):
        raise wrong(where, "a list of receivers")
    found = tuple(_receiver(row, f"{where}[{number}]") for number, row in enumerate(value))
    if len({row.url for row in found}) != len(found):
        raise wrong(where, "a list in which no url stands twice")
    return found


def _receiver(value: Any, where: str) -> Receiver:
    """Return one receiver; plain http leaves this machine only where `insecure` says so."""
    given = _object(value, where, ["url", "secret", "ca", "insecure"])
    secret, insecure = given.get("secret"), _flag(given.get("insecure", False), f"{where}.insecure")
    if not isinstance(secret, str) or len(secret.encode("utf-8")) < SHORTEST_SECRET:
        raise wrong(f"{where}.secret", f"a text of at least {SHORTEST_SECRET} bytes")
    ca = None if given.get("ca") is None else _path(given["ca"], f"{where}.ca")
    return Receiver(_url(given.get("url"), f"{where}.url", insecure), secret, ca)


def _url(value: Any, where: str, insecure: bool) -> str:
    """Return an address that alerts may be posted to."""
    if not isinstance(value, str) or not re.match(r"[!-~]{1,2000}\Z", value):
        raise wrong(where, "an address of printable ASCII characters")
    try:
        parts = urlsplit(value)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or parts.scheme not in ("http", "https") or port == 0 or parts.fragment:
        raise wrong(where, "an https address without a fragment")
    if parts.username is not None or parts.password is not None:
        raise wrong(where, "an address without a login: the signature says who sends")
    if parts.scheme == "http" and not insecure and not is_loopback(host):
        must = 'https, or an address of this machine; plain http to another one needs "insecure": true beside it'
        raise wrong(where, must)
    return value


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host in LOOPBACK_NAMES
