"""A driver that comes back from what was kept, without an archive; one fetched for later, without a change."""

from __future__ import annotations

from pathlib import Path

import pytest

from gpuhost.errors import EnvironmentProblem, RefusedError
from gpuhost.host.driver import added
from gpuhost.host.driver.apt import Apt

from .test_driver_setup import DEB, DRIVER, KERNEL, MEMBER, VERSION, Host

OURS = {"nvidia-driver-525": (VERSION, "install ok installed")}
RUNFILE = {**DRIVER, "source": "runfile", "version": "550.163.01", "branch": "550", "modules_from": "dkms", "size": 1}


@pytest.fixture
def host(tmp_path: Path) -> Host:
    """A host in order."""
    return Host(tmp_path)


def archive_asked(host: Host) -> bool:
    """Was any archive asked?"""
    words = [word for call in [*host.asked, *host.work.done] for word in call]
    return bool({"madison", "policy", "update", "show"} & set(words))


def test_what_was_kept_is_taken_and_no_archive_asked(host: Host) -> None:
    """Although the archive would have it."""
    host.keep(MEMBER)
    members, install, _ = host.setup(kept_only=True).set.exact_set()
    assert members == [MEMBER] and [change.name for change in install] == ["nvidia-driver-525"]
    assert not archive_asked(host)
    call = next(words for words in host.asked if "--simulate" in words)
    assert "Dir::Etc::SourceList=/dev/null" in call and str(host.setup().apt.place(MEMBER)) in call


def test_a_kernel_that_came_with_it_comes_back_as_well(host: Host) -> None:
    """The set of an update has what leads to its kernel, which a later update has moved on."""
    leads = {**MEMBER, "name": "linux-image-generic-hwe-18.04", "version": "5.4.0.150"}
    host.keep(MEMBER)
    host.setup().apt.write_manifest(host.setup().set.key(), [MEMBER, leads])
    host.simulated += "Inst linux-image-generic-hwe-18.04 [5.4.0.152] (5.4.0.150 local-deb [amd64])\n"
    install = host.setup(kept_only=True).set.exact_set().install
    assert [change.name for change in install] == ["nvidia-driver-525", "linux-image-generic-hwe-18.04"]
    host.simulated += "Inst linux-image-generic (5.4.0.153 local-deb [amd64])\n"
    with pytest.raises(RefusedError, match="another kernel, linux-image-generic 5"):
        host.setup(kept_only=True).set.exact_set()


def test_a_package_beside_it_that_cannot_be_configured_does_not_keep_it_away(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the way back alone, and where all of the driver has come."""
    host.keep(MEMBER)

    def install(self: object, *_: object) -> None:
        """As apt, whose dpkg cannot configure a kernel."""
        raise EnvironmentProblem("Installing failed: linux-image-5.4.0-152-generic", "Fix it.")

    monkeypatch.setattr(Apt, "install", install)
    back = host.setup(kept_only=True)
    with pytest.raises(EnvironmentProblem, match="linux-image"):
        back.packages(back.set.exact_set())
    found = back.set.exact_set()
    monkeypatch.setattr(Apt, "lacking", lambda self, members: members if host.dpkg == {} else [])
    host.dpkg.update(OURS)
    back.packages(found)
    assert "all of this driver is installed" in back.work.log.read_text()
    (host.root / "state/driver.pending").unlink()
    back.set.kept_only = False
    with pytest.raises(EnvironmentProblem, match="linux-image"):
        back.packages(found._replace(remove=found.install))


def test_a_file_that_is_gone_is_named(host: Host) -> None:
    """Before anything is changed; also where the set was never here."""
    host.keep(MEMBER)
    host.setup().apt.place(MEMBER).unlink()
    with pytest.raises(RefusedError, match=f"nvidia-driver-525 {VERSION} is not kept here"):
        host.setup(kept_only=True).set.exact_set()
    with pytest.raises(RefusedError, match="linux-modules-nvidia-525-generic-hwe"):
        Host(host.root / "other").setup(kept_only=True).set.exact_set()
    assert not archive_asked(host)


def test_what_came_with_the_system_needs_no_file(host: Host) -> None:
    """It must still be installed at its version."""
    system = {**MEMBER, "name": "libnvidia-compute-525", "sha256": "", "file": ""}
    host.keep(MEMBER)
    host.setup().apt.write_manifest(host.setup().set.key(), [MEMBER, system])
    host.dpkg["libnvidia-compute-525"] = (VERSION, "install ok installed")
    assert len(host.setup(kept_only=True).set.exact_set()[0]) == 2
    host.dpkg["libnvidia-compute-525"] = ("525.1", "install ok installed")
    with pytest.raises(RefusedError, match="libnvidia-compute-525"):
        host.setup(kept_only=True).set.exact_set()


def test_a_run_file_needs_what_it_was_built_with(host: Host) -> None:
    """Compiler, headers and dkms stay installed; of another branch what is there goes."""
    host.simulated = f"Remv nvidia-driver-525 [{VERSION}]\n"
    host.dpkg.update(OURS)
    with pytest.raises(RefusedError, match="dkms, gcc, make"):
        host.setup(driver=RUNFILE, kept_only=True).set.exact_set()
    for name in ("dkms", "gcc", "make", "libc6-dev", f"linux-headers-{KERNEL}"):
        host.dpkg[name] = ("1", "install ok installed")
        host.sources[name] = name
    members, install, remove = host.setup(driver=RUNFILE, kept_only=True).set.exact_set()
    assert (members, install) == ([], []) and [change.name for change in remove] == ["nvidia-driver-525"]


def test_fetching_for_later_changes_nothing_else(host: Host) -> None:
    """The set is written down and its files are in the cache; nothing is installed, no record is touched."""
    kept = {**MEMBER, "file": f"nvidia-driver-525_{VERSION}_amd64.deb"}
    host.keep(kept)
    assert not host.setup().prefetch()
    host.setup().apt.place(kept).unlink()
    setup = host.setup()
    setup.apt.scratch.mkdir(parents=True)

    def deliver(words: object, what: str) -> None:
        """apt puts the file where it was told to."""
        (setup.apt.scratch / f"nvidia-driver-525_{VERSION}_amd64.deb").write_bytes(DEB)

    setup.apt.apt = deliver  # type: ignore[method-assign,assignment]
    assert setup.prefetch()
    assert setup.apt.whole_set(setup.set.key()) is not None
    assert not (host.root / "state").exists() and host.work.done == []


def test_what_is_about_to_be_installed_is_noted_first(host: Host) -> None:
    """For the removal: what is new, and not what is only upgraded."""
    host.simulated += f"Inst nvidia-utils-525 [525.1] ({VERSION} Ubuntu:18.04/bionic-updates [amd64])\n"
    setup = host.setup()
    setup.apt.fetch = lambda members: None  # type: ignore[method-assign,assignment]
    setup.packages(setup.set.exact_set())
    assert added.read(host.root)["added"] == ["nvidia-driver-525"]
