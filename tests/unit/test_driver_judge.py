"""One judgement whether the driver is in place: what counts, and that the role, verify and the watch agree on it."""

from __future__ import annotations

from typing import Any, Dict, List, Tuple

import pytest

from gpuhost.checks.base import FAIL, PASS
from gpuhost.host.driver.judge import Packages, altered, is_module, replaced
from gpuhost.host.watch import judge as watch

from .collected import gpu_host, judged
from .test_watch_findings import BESIDE, driver, guard, watched

DRIVER, LIBRARY, MODULES = "nvidia-driver-525", "libx11-6", "linux-modules-nvidia-525-5.4.0-150-generic"
RECORD: Dict[str, Any] = {"version": "525.105.17", "packages": {DRIVER: "525.105.17-0u1", MODULES: "1", LIBRARY: "1"}}
GUARDED = {DRIVER: "525.105.17-0u1", MODULES: "1"}


@pytest.mark.parametrize(
    ("guarded", "names", "told"),
    [
        (GUARDED, None, []),
        (GUARDED, {*GUARDED, LIBRARY}, []),
        (GUARDED, set(GUARDED), [f"{LIBRARY} 1 is gone"]),
        ({**GUARDED, MODULES: "2"}, None, [f"{MODULES} is 2, installed was 1"]),
        ({DRIVER: GUARDED[DRIVER]}, None, [f"{MODULES} 1 is gone"]),
        ({DRIVER: GUARDED[DRIVER]}, {DRIVER, LIBRARY}, [f"{MODULES} 1 is gone"]),
    ],
)
def test_packages_that_are_not_as_they_were(guarded: Dict[str, str], names: Any, told: List[str]) -> None:
    """The driver's by version; what came along with it only by name, and only where all names are known."""
    assert replaced(RECORD, Packages(guarded, names)) == told


def test_another_branch_beside_it_counts() -> None:
    """A transitional package that leads to the recorded branch does not."""
    assert altered(RECORD, Packages({**GUARDED, "nvidia-driver-515": "525.105.17-0u1"})) == []
    told = f"nvidia-driver-470 {BESIDE['nvidia-driver-470']} came beside it"
    assert altered(RECORD, Packages({**GUARDED, **BESIDE})) == [told]


@pytest.mark.parametrize(
    ("module", "flavour", "right"),
    [
        (None, None, False),
        ({"version": "1", "open": True}, None, True),
        ({"version": "2", "open": True}, None, False),
        ({"version": "1", "open": True}, "open", True),
        ({"version": "1", "open": True}, "proprietary", False),
        ({"version": "1", "open": False}, "proprietary", True),
    ],
)
def test_the_wanted_module(module: Any, flavour: Any, right: bool) -> None:
    """By version, and by flavour where the lock is available."""
    assert is_module(module, "1", flavour) is right


CHANGES: List[Tuple[str, Any]] = [
    ("as it was", lambda there: None),
    ("a newer library of the driver", lambda there: there.update({"libnvidia-compute-525": "525.147.05-0ubuntu1"})),
    ("one package less", lambda there: there.pop("libnvidia-compute-525")),
    ("another branch", lambda there: there.update(BESIDE)),
]


@pytest.mark.parametrize(("what", "change"), CHANGES, ids=[what for what, _ in CHANGES])
def test_verify_and_the_watch_report_what_the_role_acts_upon(what: str, change: Any) -> None:
    """On one host, in the same words."""
    seen = gpu_host()
    change(guard(seen)["stack"])
    guard(seen)["held"] = list(guard(seen)["stack"])
    said = altered(driver(seen)["record"], Packages(guard(seen)["stack"]))
    found = judged(seen)["driver.installed"]
    findings = [f.what for f in watch.judge(watched(seen)).findings if f.id == "driver.installed"]
    assert (found.status, findings) == ((FAIL, ["; ".join(said)]) if said else (PASS, []))
    assert not said or said[0] in found.actual
    assert bool(said) == (what != "as it was")
