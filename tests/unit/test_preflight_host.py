"""Preflight on everything but apt's sources: platform, machine, dpkg, and the controller's ansible-core."""

from __future__ import annotations

import pytest

from gpuhost.checks import host as checks_host
from gpuhost.errors import UnreadableError
from gpuhost.host.driver import setup as driver_setup
from gpuhost.host.probe import driver as probe_driver
from gpuhost.host.probe import machine as probe
from gpuhost.planning import preflight, rebuild
from gpuhost.planning.catalog import shipped
from gpuhost.planning.request import request_of
from gpuhost.planning.resolve import resolver

from ..example_hosts import folder_of, observed

BIONIC = (folder_of("ubuntu1804-quadro-p2000") / "fs" / "etc" / "os-release").read_text(encoding="utf-8")
BOOKWORM = (folder_of("debian12-no-gpu") / "fs" / "etc" / "os-release").read_text(encoding="utf-8")


def test_half_configured_packages_are_named() -> None:
    """What apt's next call would stumble over, with the command; packages removed completely are not a fault."""
    (problem,) = preflight.problems(observed("ubuntu1804-half-configured"))
    assert "nvidia-dkms-525, nvidia-driver-525" in problem
    assert "nvidia-driver-515" not in problem
    assert "dpkg --configure -a && apt-get -f install" in problem


def test_an_audit_that_names_a_package_the_probe_does_not_watch() -> None:
    """dpkg's own sentence is shown then."""
    observation = observed("debian12-no-gpu")
    observation["dpkg_audit"] = ["The following packages are only half configured:", "vim"]
    (problem,) = preflight.problems(observation)
    assert "The following packages are only half configured" in problem


def test_a_busy_dpkg_is_no_broken_one() -> None:
    """Packages are half installed while apt-daily works; the advice is to wait, not to fix."""
    observation = observed("ubuntu1804-half-configured")
    observation["dpkg_audit"] = ["dpkg: error: dpkg frontend lock has locked the database"]
    assert checks_host.dpkg_busy(observation)
    (problem,) = preflight.problems(observation)
    assert "Wait for it" in problem
    assert "--configure" not in problem
    assert not checks_host.dpkg_busy(observed("ubuntu1804-half-configured"))


def test_an_unknown_platform_ends_it() -> None:
    """One sentence with the platforms that are supported; nothing else can be judged, and there is no remark."""
    observation = observed("ubuntu1804-foreign-sources")
    observation["platform"].update(id="fedora-41", distribution="fedora", codename="", pretty_name="Fedora Linux 41")
    (problem,) = preflight.problems(observation)
    known = ", ".join(shipped().platforms["platforms"])
    told = "Fedora Linux 41 (fedora-41) is not in the catalog, and neither Debian nor Ubuntu."
    assert problem == f"{told} These are known: {known}."
    assert preflight.remarks(observation) == []


def test_another_machine_type_is_refused() -> None:
    """Every artifact is for x86_64."""
    observation = observed("debian12-no-gpu")
    observation["machine"] = "aarch64"
    (problem,) = preflight.problems(observation)
    assert "aarch64" in problem


def test_all_problems_are_told_at_once() -> None:
    """Not one a run."""
    observation = observed("ubuntu1804-foreign-sources")
    observation["machine"] = "aarch64"
    observation["dpkg_audit"] = ["vim is half configured"]
    assert len(preflight.problems(observation)) == 6


@pytest.mark.parametrize(
    ("os_release", "core", "needs"),
    [
        (BIONIC, "2.13.13", ""),
        (BIONIC, "2.16.19", ""),
        (BIONIC, "2.17.0", "Python 3.7"),
        (BIONIC, "2.18.1", "Python 3.8"),
        (BIONIC, "2.20.0", "Python 3.8"),
        (BIONIC, "2.17.0rc1", "Python 3.7"),
        (BIONIC.replace("\n", "\r\n"), "2.20.0", "Python 3.8"),
        (BOOKWORM, "2.16.19", ""),
        (BOOKWORM, "2.20.0", ""),
        ("", "2.20.0", ""),
        ("not an os-release", "2.20.0", ""),
        ("ID=\nVERSION_ID=", "2.20.0", ""),
        ("ID=arch\n", "2.20.0", ""),
        ("ID='ubuntu'\nVERSION_ID='18.04'\n", "2.20.0", "Python 3.8"),
        ("ID=ubuntu\nVERSION_ID=18.04", "2.20.0", "Python 3.8"),
    ],
)
def test_a_core_that_cannot_manage_the_target_is_refused(os_release: str, core: str, needs: str) -> None:
    """By the support matrix; a platform that is unknown has its own message later."""
    problem = preflight.controller_problem(os_release, core)
    if not needs:
        assert problem == ""
        return
    assert f"ansible-core {core} needs {needs} on the target, Ubuntu 18.04 LTS has 3.6" in problem
    assert "GPUHOST_PYTHON=python3.11 ./run" in problem


def test_what_our_own_interrupted_run_left_is_mended_by_the_next() -> None:
    """Only with the marker of a driver installation does a half-configured dpkg not stop the run."""
    half = observed("ubuntu1804-half-configured")
    busy = ["dpkg: error: another process has locked the database"]
    assert checks_host.dpkg_problems(half)
    assert checks_host.dpkg_problems(dict(half, interrupted=True)) == []
    assert checks_host.dpkg_problems(dict(half, interrupted=True, dpkg_audit=busy))


def test_the_probe_looks_for_the_marker_that_the_driver_leaves() -> None:
    """The path stands in two places, because the probe does not know the roles."""
    assert f"{probe_driver.ROOT}/{driver_setup.PENDING}" == probe.INTERRUPTED


def test_a_plan_is_not_made_from_what_could_not_be_read() -> None:
    """Whatever it was, unless no plan rests on it; a source list that is told as such is told once."""
    observation = observed("ubuntu1804-quadro-p2000")
    for what in (
        "dpkg-query",
        "dpkg --audit",
        "apt-cache policy",
        "/etc/os-release",
        "/sys/bus/pci/devices/0000:00:1f.0",
    ):
        (problem,) = preflight.problems({**observation, "problems": [{"what": what, "error": "It broke."}]})
        assert what in problem and "It broke." in problem
    for what in ("df /", "/proc/meminfo", "/usr/bin/python3.6"):
        assert preflight.problems({**observation, "problems": [{"what": what, "error": "It broke."}]}) == []


@pytest.mark.parametrize(("name", "refused"), [("ubuntu1804-quadro-p2000", True), ("debian12-no-gpu", False)])
def test_an_unknown_secure_boot_is_not_planned_as_off(name: str, refused: bool) -> None:
    """Unsigned modules would be refused at the next boot. Without a card no module is installed."""
    observation = {**observed(name), "secure_boot": "unknown"}
    observation["problems"] = [{"what": "mokutil --sb-state", "error": "mokutil is not installed"}]
    assert bool(preflight.problems(observation)) == refused
    found = resolver()
    if refused:
        with pytest.raises(UnreadableError, match="Secure Boot"):
            request_of(found, observation, {})
        with pytest.raises(UnreadableError, match="Secure Boot"):
            rebuild.request_for(found, observation, {}, False, ["GTX 750 Ti"])
    assert request_of(found, observation, {}, secure_boot=False).secure_boot is False


@pytest.mark.parametrize("what", ["/proc/cpuinfo", "/boot", "/lib/modules", "/sys/bus/pci/devices/0000:00:1f.0"])
def test_a_request_is_not_made_from_what_could_not_be_read(what: str) -> None:
    """Without its flags a CPU would pass for one without AVX, and a device for one that is not a card."""
    observation = {**observed("debian12-no-gpu"), "problems": [{"what": what, "error": "It broke."}]}
    with pytest.raises(UnreadableError, match=what):
        request_of(resolver(), observation, {})
