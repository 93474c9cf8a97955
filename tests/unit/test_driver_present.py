"""A driver brought into place on a host whose apt and dpkg are played: what counts, and that any step can be the last.

The kernel's part (modules, initramfs, what is loaded) is played as ready.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List, Sequence

import pytest

from gpuhost.errors import EnvironmentProblem, RefusedError
from gpuhost.host import store
from gpuhost.host.driver import setup as driver_setup
from gpuhost.host.driver.setup import PENDING, RECORD, Setup
from gpuhost.host.edges import Edges

from .test_driver_modules import READY
from .test_driver_setup import DRIVER, KERNEL, MEMBER, VERSION, Host

INSTALLED = "install ok installed"
STEPS = ("preflight", "packages", "ready", "record")


class Killed(BaseException):
    """The power was cut."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host whose next boot would load what is installed, and where apt installs what it is asked for."""
    monkeypatch.setattr(driver_setup, "NOUVEAU_FILE", str(tmp_path / "nouveau.conf"))
    monkeypatch.setattr(driver_setup, "UNINSTALL", str(tmp_path / "nvidia-uninstall"))
    host = Host(tmp_path)

    def state(self: Setup) -> Dict[str, Any]:
        return {**READY, "record": store.read_json(self.root / RECORD)}

    def apt(self: Any, words: Sequence[str], what: str) -> None:
        host.work.done.append(list(words))
        if "install" in words and "--download-only" not in words:
            host.dpkg["nvidia-driver-525"] = (VERSION, INSTALLED)

    def again(self: Any, members: List[Dict[str, Any]]) -> None:
        host.work.done.append(["unpack again", *(m["name"] for m in members)])
        for member in members:
            host.damage.pop(member["name"], None)

    monkeypatch.setattr(Setup, "state", state)
    monkeypatch.setattr("gpuhost.host.driver.apt.Apt.unpack_again", again)
    monkeypatch.setattr("gpuhost.host.driver.apt.Apt.apt", apt)
    monkeypatch.setattr("gpuhost.host.driver.apt.Apt.fetch", lambda self, members: None)
    return host


def brought(host: Host) -> Host:
    """The host with its driver in place."""
    assert host.setup().present() is not None
    return host


def test_in_place_is_in_place(host: Host) -> None:
    """The record names the set; a second time nothing is to be done, and nothing is."""
    assert host.setup().differences() == ["it was not installed by this lock for this kernel"]
    brought(host)
    record = json.loads((host.root / RECORD).read_text(encoding="utf-8"))
    assert record["packages"] == {"nvidia-driver-525": VERSION} and record["kernel"] == KERNEL
    done = len(host.work.done)
    assert host.setup().differences() == [] and host.setup().present() is None
    assert len(host.work.done) == done
    assert host.setup(boots="5.4.0-152-generic").differences() != []


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("begin", ["bare", "replaced"])
def test_a_run_that_is_cut_anywhere_is_finished_by_the_next(
    host: Host, monkeypatch: pytest.MonkeyPatch, step: str, moment: str, begin: str
) -> None:
    """Before and after each step, with and without a record of before; only a whole run leaves one, and no marker."""
    if begin == "replaced":
        brought(host).dpkg["nvidia-driver-525"] = ("525.125.06-0ubuntu1", INSTALLED)
    holder: Any = host.setup().set.__class__ if step == "preflight" else Setup
    real = getattr(holder, step)

    def cut(self: Any, *arguments: Any) -> Any:
        if moment == "after":
            real(self, *arguments)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(holder, step, cut)
        with pytest.raises(Killed):
            host.setup().present()
    is_whole = (step, moment) == ("record", "after")
    assert bool(host.setup().differences()) is not is_whole
    host.setup().present()
    assert host.setup().differences() == []
    assert (host.root / RECORD).exists() and not (host.root / PENDING).exists()


def test_what_cannot_end_well_is_refused_before_anything_is_changed(host: Host) -> None:
    """No marker, no file that keeps nouveau out, no package: only the lists were read."""
    host.offers["nvidia-driver-525"] = []
    with pytest.raises(RefusedError, match=r"\(D05\)"):
        host.setup().present()
    assert host.work.done == [["update"]]
    assert not (host.root / "state").exists() and not Path(driver_setup.NOUVEAU_FILE).exists()


def test_an_update_of_what_came_along_is_no_reason_to_go_back(host: Host) -> None:
    """A library's security update stays; gone, or half installed, it is missed. The driver's own version counts."""
    library = {**MEMBER, "name": "libx11-6", "version": "1", "sha256": ""}
    host.dpkg["libx11-6"], host.sources["libx11-6"] = ("1", INSTALLED), "libx11"
    brought(host)
    setup = host.setup()
    setup.apt.write_manifest(setup.set.key(), [MEMBER, library])
    setup.record()
    host.dpkg["libx11-6"] = ("2", INSTALLED)
    assert host.setup().differences() == []
    for state in ("install ok half-configured", "deinstall ok config-files"):
        host.dpkg["libx11-6"] = ("2", state)
        assert host.setup().differences() == ["libx11-6 1 is gone"]
    host.dpkg["libx11-6"] = ("2", INSTALLED)
    host.dpkg["nvidia-driver-525"] = ("525.125.06-0ubuntu1", INSTALLED)
    (told,) = host.setup().differences()
    assert told.startswith("nvidia-driver-525 is 525.125.06")


def test_files_that_are_gone_are_brought_back(host: Host) -> None:
    """dpkg still has their package for installed, so apt alone would see nothing to do."""
    brought(host)
    library = "/usr/lib/x86_64-linux-gnu/libcuda.so.525.105.17"
    host.damage["nvidia-driver-525"] = (
        f"missing     {library}\nmissing   c /etc/x\nmissing     /usr/share/doc/x\nmissing     /lib/modprobe.d/x.conf\n"
    )
    assert host.setup().differences() == [f"{library} is missing"]
    host.setup().present()
    assert host.work.done[-1] == ["unpack again", "nvidia-driver-525"]
    assert host.setup().differences() == []
    host.damage["nvidia-driver-525"] = f"??5??????   {library}\n"
    assert host.setup().differences() == [f"{library} is changed"]


def test_another_branch_that_came_beside_it_is_taken_away(host: Host) -> None:
    """What verify reports as D04 is what the role acts upon; what stays all the same is never recorded as in place."""
    brought(host)
    host.dpkg["nvidia-driver-470"] = ("470.182.03-0ubuntu1", INSTALLED)
    (told,) = host.setup().differences()
    assert told == "nvidia-driver-470 470.182.03-0ubuntu1 came beside it"
    host.simulated = "Remv nvidia-driver-470 [470.182.03-0ubuntu1]\n"
    with pytest.raises(EnvironmentProblem, match=r"nvidia-driver-470 .* came beside it"):
        host.setup().present()
    assert "nvidia-driver-470-" in host.work.done[-1]
    del host.dpkg["nvidia-driver-470"]
    host.setup().present()
    assert host.setup().differences() == []


def test_what_dpkg_does_not_answer_is_never_in_place(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by an error nor by lines that cannot be read."""
    brought(host)
    real = host.run

    def broken(answer: Any) -> Any:
        return lambda argv, timeout: answer if argv[-1].startswith("-f=${Package}") else real(argv, timeout)

    for answer in ((2, "", "the database is damaged"), (0, "half a line\n", "")):
        monkeypatch.setattr(host, "run", broken(answer))
        with pytest.raises(EnvironmentProblem):
            host.setup().differences()


def test_a_dry_run_goes_by_the_host_s_lists_like_a_real_one(host: Host, tmp_path: Path) -> None:
    """And reads lists aside only where a real run would read them again: the host's own are left alone."""

    def lists(words: List[str]) -> List[str]:
        return [word for word in words if word.startswith("Dir::State::Lists")]

    setup = host.setup()
    setup.apt.aside = tmp_path
    assert setup.set.preflight().members
    assert host.work.done == [] and not [words for words in host.asked if lists(words)]
    host.offers["nvidia-driver-525"] = []
    with pytest.raises(RefusedError):
        setup.set.preflight()
    assert host.work.done == [["update"]]
    assert lists(setup.apt.options()) == [f"Dir::State::Lists={tmp_path}"]


@pytest.mark.parametrize(
    ("running", "why"),
    [(KERNEL, ""), ("4.15.0-1-generic", f"kernel 4.15.0-1-generic runs, the driver was made for {KERNEL}")],
)
def test_the_locked_driver_in_another_kernel_is_not_in_use(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, running: str, why: str
) -> None:
    """An update to a newer kernel whose driver is of the same version ends with that kernel's boot."""
    said = f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {DRIVER['version']}  Fri\n"
    for name, text in (("proc/driver/nvidia/version", said), ("proc/modules", "nvidia 1 0 - Live 0x0\n")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.setattr(driver_setup, "Edges", lambda root, run: Edges(str(tmp_path), run))
    found = host.setup(running=running).hand_over()
    assert found == {"reboot_required": why, "console_required": ""}
