"""What an update takes: the newest kernel and driver of the lock's branch that a host's own archive offers."""

from __future__ import annotations

import copy
from typing import Any, Dict, List, Optional

import pytest

from gpuhost.errors import RefusedError
from gpuhost.host.edges import Edges
from gpuhost.host.probe.apt import read_indexes
from gpuhost.host.probe.offers import read_offers
from gpuhost.planning import contents, lock, plan, update, virtualbox
from gpuhost.planning.catalog import DATA, shipped, validator
from gpuhost.planning.offers import resolver_for
from gpuhost.planning.request import request_of

from ..example_hosts import observed
from ..offered import Apt, modules, offers, package, ubuntu_branch

Json = Dict[str, Any]
UBUNTU, DEBIAN = "ubuntu-18.04", "debian-12"
P2000 = observed("ubuntu1804-quadro-p2000")
CLAIMS = next(r["claims"] for r in shipped().drivers["archives"][UBUNTU] if r["package"] == "nvidia-driver-525")
NOW, NEXT = "5.4.0-150-generic", "5.4.0-152-generic"
OLD, NEW = "525.105.17-0ubuntu0.18.04.1", "525.125.06-0ubuntu0.18.04.1"
HWE = "generic-hwe-18.04"
DEBIAN_NOW, DEBIAN_NEXT = "6.1.0-56-amd64", "6.1.0-57-amd64"
DEBIAN_OLD, DEBIAN_NEW = "535.261.03-1~deb12u1", "535.309.01-0+deb12u1"


def metas(flavour: str, kernel: str, number: str) -> List[Json]:
    """Return the packages that lead to a kernel, and those of that kernel."""
    rows = {
        f"linux-{flavour}": f"linux-image-{flavour} (= {number}), linux-headers-{flavour} (= {number})",
        f"linux-image-{flavour}": f"linux-image-{kernel} | linux-image-unsigned-{kernel}, linux-firmware",
        f"linux-headers-{flavour}": f"linux-headers-{kernel}",
        f"linux-image-{kernel}": "kmod, linux-base",
        f"linux-headers-{kernel}": "",
    }
    return [package(name, number, "linux-meta", "main", depends=depends) for name, depends in rows.items()]


def line(version: str, now: str, later: Optional[str] = None) -> List[Json]:
    """Return a 525 of Ubuntu's with signed modules for the kernel of now and, if there is one, for the later one."""
    upstream = version.partition("-")[0]
    rows = ubuntu_branch("525", version, CLAIMS)
    for kernel, number in ((now, "150.167"), (later, "152.169")):
        if kernel is not None:
            rows += modules("525", upstream, HWE, kernel, f"{number}+{upstream}")
            rows.append(
                package(f"linux-signatures-nvidia-{kernel}", f"{number}+{upstream}", "linux-restricted-signatures")
            )
    return [row for n, row in enumerate(rows) if row["package"] not in [other["package"] for other in rows[n + 1 :]]]


def ubuntu(packages: List[Json], kernels: List[Json], boots: str = NOW, leads: str = NOW) -> Json:
    """Return a P2000's host on 18.04 whose archive has these packages; its metapackages lead to `leads`."""
    there = [row for row in metas(HWE, leads, "5.4.0.150") if row["package"].endswith(HWE)]
    found = {**offers(UBUNTU, packages, ("restricted",))}
    found["kernels"] = {
        "leading": [{key: row[key] for key in ("package", "version", "depends")} for row in there],
        "packages": kernels,
    }
    kernel = {**P2000["kernel"], "boots": boots}
    observation = {**copy.deepcopy(P2000), "kernel": kernel, "secure_boot": "enabled", "offers": found}
    validator(DATA / "observation.schema.json")(observation)
    return observation


def debian(packages: List[Json], kernel: str) -> Json:
    """Return a host on Debian 12, whose module is built by DKMS."""
    found = {**offers(DEBIAN, packages, ("contrib", "non-free", "non-free-firmware"))}
    leading = [row for row in metas("amd64", DEBIAN_NOW, "6.1.56") if row["package"].endswith("-amd64")]
    found["kernels"] = {
        "leading": [{key: row[key] for key in ("package", "version", "depends")} for row in leading[:3]],
        "packages": metas("amd64", kernel, "6.1.57"),
    }
    kernels = {**P2000["kernel"], "boots": DEBIAN_NOW}
    platform = observed("debian12-no-gpu")["platform"]
    return {**copy.deepcopy(P2000), "platform": platform, "kernel": kernels, "offers": found}


def nvidia(version: str) -> List[Json]:
    """Return Debian's driver and what builds its module."""
    source = "nvidia-graphics-drivers"
    more = {"depends": f"nvidia-kernel-dkms (= {version})"}
    return [
        package("nvidia-driver", version, source, "non-free", **more),
        package("nvidia-kernel-dkms", version, source, "non-free"),
    ]


def locked(observation: Json) -> Json:
    """Return the lock of a host."""
    found = resolver_for(observation, {}, True)
    made = plan.make(found, request_of(found, observation, {}))
    assert made["status"] == "planned", made
    return lock.make("box", observation, made)


def updated(observation: Json, old: Json, pending: Optional[Json] = None) -> Json:
    """Return what the update comes to; the new lock must be a whole one."""
    found = update.prepare(resolver_for(observation, {}, True), observation, old, pending, {})
    assert lock.check(found["lock"], "here", "box") == found["lock"]
    return found


FIRST = ubuntu(line(OLD, NOW), metas(HWE, NOW, "5.4.0.150"))
LATER = ubuntu(line(NEW, NOW, NEXT), metas(HWE, NEXT, "5.4.0.152"))


class TestSignedModules:
    """A Quadro P2000 on Ubuntu 18.04 under Secure Boot."""

    def test_kernel_and_driver_go_together(self) -> None:
        """Both are the archive's newest, the modules are for the new kernel, and nothing else of the lock changes."""
        old = locked(FIRST)
        assert (old["plan"]["driver"]["modules_from"], old["plan"]["driver"]["modules"]["kernel"]) == ("signed", NOW)
        found = updated(LATER, old)
        driver = found["lock"]["plan"]["driver"]
        assert found["differs"] and driver["package_version"] == NEW and driver["modules"]["kernel"] == NEXT
        assert found["lines"][:2] == [f"kernel: {NOW} -> {NEXT}", f"driver: {OLD} -> {NEW}"]
        assert update.with_driver(found["lock"], old["plan"]["driver"]) == old
        assert found["kernel"] == {
            "release": NEXT,
            "packages": {
                name: "5.4.0.152"
                for name in (
                    f"linux-{HWE}",
                    f"linux-headers-{HWE}",
                    f"linux-image-{HWE}",
                    f"linux-headers-{NEXT}",
                    f"linux-image-{NEXT}",
                )
            },
        }

    def test_the_older_kernel_keeps_a_module(self) -> None:
        """It stays installed, and its module has to go with the new driver."""
        names = [deb["name"] for deb in updated(LATER, locked(FIRST))["lock"]["plan"]["driver"]["packages"]]
        assert {f"linux-modules-nvidia-525-{kernel}" for kernel in (NOW, NEXT)} <= set(names)
        assert {f"linux-signatures-nvidia-{kernel}" for kernel in (NOW, NEXT)} <= set(names)

    def test_nothing_newer(self) -> None:
        """The lock stays as it is."""
        old = locked(FIRST)
        found = updated(FIRST, old)
        assert not found["differs"] and found["lock"] == old and found["lines"][1] == f"driver: {OLD} stays"

    def test_a_kernel_without_a_module_is_not_taken(self) -> None:
        """It would boot without the card. The driver is updated for the kernel of now, and it is said."""
        found = updated(ubuntu(line(NEW, NOW), metas(HWE, NEXT, "5.4.0.152")), locked(FIRST))
        driver = found["lock"]["plan"]["driver"]
        assert (driver["package_version"], driver["modules"]["kernel"]) == (NEW, NOW)
        assert found["kernel"] == {"release": NOW, "packages": {}}
        assert f"Kernel {NEXT} is offered and not taken" in found["lines"][-1]

    def test_a_driver_whose_modules_lag_behind_is_not_taken(self) -> None:
        """Canonical publishes them apart from it; until then everything stays."""
        rows = ubuntu_branch("525", NEW, CLAIMS) + line(OLD, NOW)[-5:]
        found = updated(ubuntu(rows, metas(HWE, NOW, "5.4.0.150")), locked(FIRST))
        assert not found["differs"] and "no signed modules of driver 525" in found["lines"][-1]

    def test_the_next_run_goes_on(self) -> None:
        """After the new kernel was installed, and before the lock was adopted, the same lock comes out."""
        old = locked(FIRST)
        begun = updated(LATER, old)
        went = ubuntu(line(NEW, NOW, NEXT), metas(HWE, NEXT, "5.4.0.152"), boots=NEXT, leads=NEXT)
        found = updated(went, old, begun["lock"])
        assert found["differs"] and found["lock"] == begun["lock"] and found["kernel"] == begun["kernel"]
        assert not updated(went, found["lock"])["differs"]

    def test_a_kernel_on_trial_is_gone_on_with(self) -> None:
        """The boot loader's default is the kernel of before until then, and the metapackages lead on already."""
        begun = updated(LATER, locked(FIRST))
        went = ubuntu(line(NEW, NOW, NEXT), metas(HWE, NEXT, "5.4.0.152"), boots=NOW, leads=NEXT)
        assert updated(went, locked(FIRST), begun["lock"])["kernel"]["release"] == NOW
        for told in ("", "It was undone: it did not come up."):
            went["kernel"]["tried"] = {"kernel": NEXT, "told": told}
            found = updated(went, locked(FIRST), begun["lock"])
            assert found["lock"] == begun["lock"] and found["kernel"] == begun["kernel"]
            assert (told in found["lines"]) == bool(told)

    def test_metapackages_that_lag_behind_a_killed_run_are_finished(self) -> None:
        """dpkg had unpacked the image, which boots now, and not yet what leads to it."""
        went = ubuntu(line(NEW, NOW, NEXT), metas(HWE, NEXT, "5.4.0.152"), boots=NEXT, leads=NOW)
        old = locked(FIRST)
        assert updated(went, old, updated(LATER, old)["lock"])["kernel"]["packages"][f"linux-{HWE}"] == "5.4.0.152"

    def test_an_archive_that_is_behind_takes_no_kernel_away(self) -> None:
        """A mirror that lags, or a kernel from a pocket that is no longer read."""
        host = ubuntu(line(OLD, NOW, NEXT), metas(HWE, NOW, "5.4.0.150"), boots=NEXT, leads=NEXT)
        assert updated(host, locked(host))["kernel"] == {"release": NEXT, "packages": {}}

    def test_a_chosen_kernel_stays(self) -> None:
        """The boot loader was told to start an older kernel than the one that the metapackages lead to."""
        old = locked(FIRST)
        found = updated(ubuntu(line(NEW, NOW, NEXT), metas(HWE, NEXT, "5.4.0.152"), leads="5.4.0-151-generic"), old)
        assert found["kernel"]["release"] == NOW and found["lock"]["plan"]["driver"]["modules"]["kernel"] == NOW
        assert "No package such as linux-image-generic leads" in found["lines"][-1]


class TestDkms:
    """Debian 12, where the module is built for whatever kernel there is."""

    def test_a_newer_kernel_alone(self) -> None:
        """The lock, which names no kernel, stays; the kernel and what leads to it are to be installed."""
        old = locked(debian(nvidia(DEBIAN_OLD), DEBIAN_NOW))
        assert old["plan"]["driver"]["modules_from"] == "dkms"
        found = updated(debian(nvidia(DEBIAN_OLD), DEBIAN_NEXT), old)
        assert found["differs"] and found["lock"] == old and found["kernel"]["release"] == DEBIAN_NEXT
        assert {f"linux-image-{DEBIAN_NEXT}", f"linux-headers-{DEBIAN_NEXT}"} <= set(found["kernel"]["packages"])

    def test_a_kernel_only_update_that_was_stopped(self) -> None:
        """Its lock is the old one; that it lies there says that it was not finished."""
        observation = debian(nvidia(DEBIAN_OLD), DEBIAN_NOW)
        old = locked(observation)
        assert not updated(observation, old)["differs"] and updated(observation, old, old)["differs"]

    def test_a_newer_driver(self) -> None:
        """Of the same branch."""
        old = locked(debian(nvidia(DEBIAN_OLD), DEBIAN_NOW))
        found = updated(debian(nvidia(DEBIAN_NEW), DEBIAN_NEXT), old)
        assert found["lock"]["plan"]["driver"]["package_version"] == DEBIAN_NEW

    def test_an_index_that_was_made_anew(self) -> None:
        """The permanent addresses move with its date, and the same files at another address are not news: neither for a
        lock nor for an update that was stopped.
        """
        old = locked(debian(nvidia(DEBIAN_OLD), DEBIAN_NOW))
        begun = updated(debian(nvidia(DEBIAN_NEW), DEBIAN_NOW), old)["lock"]
        again = {version: debian(nvidia(version), DEBIAN_NOW) for version in (DEBIAN_OLD, DEBIAN_NEW)}
        for observation in again.values():
            observation["offers"]["archives"][0]["date"] = "20261228T210335Z"
        assert updated(again[DEBIAN_OLD], old)["lock"] == old
        assert updated(again[DEBIAN_NEW], old)["lock"] != begun
        assert updated(again[DEBIAN_NEW], old, begun)["lock"] == begun

    @pytest.mark.parametrize("version", ["550.163.01-2", "535.216.01-1~deb12u1"])
    def test_another_branch_and_an_older_version_are_not_taken(self, version: str) -> None:
        """Another branch may have dropped the card, and what is older is not an update."""
        old = locked(debian(nvidia(DEBIAN_OLD), DEBIAN_NOW))
        found = updated(debian(nvidia(version), DEBIAN_NOW), old)
        assert not found["differs"] and found["lock"] == old


class TestRefusals:
    """What an update does not begin with."""

    def test_another_card(self) -> None:
        """That is a rebuild."""
        old = locked(FIRST)
        swapped = copy.deepcopy(LATER)
        swapped["gpus"][0].update(pci_id="10de:1b80", uuid=None)
        with pytest.raises(RefusedError, match="no longer matches its lock") as error:
            updated(swapped, old)
        assert "rebuild.yml" in str(error.value)

    def test_a_rebuild_that_is_under_way(self) -> None:
        """Its lock lies where the update's would."""
        old = locked(FIRST)
        other = {**old, "cards": []}
        with pytest.raises(RefusedError, match="A rebuild of this host is not finished"):
            updated(LATER, old, other)


def stanza(name: str, version: str, depends: str = "") -> str:
    """Return a package as `apt-cache show` tells it."""
    return (
        f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nSource: linux\nSize: 10\nSHA256: {'a' * 64}\n"
        f"Filename: pool/main/l/linux/{name}_{version}_amd64.deb\nDepends: {depends}\n"
    )


def test_the_archives_kernels_are_read_when_they_are_asked_for() -> None:
    """From the installed metapackage to the last package of the kernel it leads to, and that kernel's modules."""
    rows = {
        "linux-image-generic": f"linux-image-{NEXT}",
        f"linux-image-{NEXT}": f"kmod, linux-modules-{NEXT}",
        f"linux-modules-{NEXT}": "",
        f"linux-modules-nvidia-525-{NEXT}": "",
    }
    index = "http://archive.example/ubuntu bionic-updates/main amd64 Packages"
    policy = (
        f"Package files:\n 500 {index}\n"
        "     release v=18.04,o=Ubuntu,a=bionic-updates,n=bionic,l=Ubuntu,c=main,b=amd64\n"
        "     origin archive.example\nPinned packages:\n"
    )
    madison = "".join(f" {name} | 2 | {index}\n" for name in rows)
    apt = Apt(policy, madison, "\n".join(stanza(name, "2", depends) for name, depends in rows.items()))

    def run(argv: Any, timeout: float) -> Any:
        if argv[0] == "dpkg":
            return 0, "amd64\n", ""
        if argv[0] == "dpkg-query":
            named = [("linux-image-generic", f"linux-image-{NOW}"), (f"linux-image-{NOW}", "kmod")]
            return 0, "".join(f"{n}\tamd64\tlinux\t1\tinstall\tinstalled\t, {d}\n" for n, d in named), ""
        return apt.run(argv, timeout)

    edges = Edges("/nowhere", run)
    plain = read_offers(edges, read_indexes(edges), "ubuntu", "amd64", [NOW])
    assert plain is not None and "kernels" not in plain and plain["packages"] == []
    found = read_offers(edges, read_indexes(edges), "ubuntu", "amd64", [NOW], newer=True)
    assert found is not None
    leading = {"package": "linux-image-generic", "version": "1", "depends": f"linux-image-{NOW}"}
    assert found["kernels"]["leading"] == [leading]
    assert [row["package"] for row in found["kernels"]["packages"]] == [
        f"linux-image-{NEXT}",
        "linux-image-generic",
        f"linux-modules-{NEXT}",
    ]
    assert [row["package"] for row in found["packages"]] == [f"linux-modules-nvidia-525-{NEXT}"]
    validator(DATA / "observation.schema.json")({**P2000, "offers": found})

    def test_a_kernel_that_virtualbox_does_not_compile_against_is_named_first(self) -> None:
        """Where it is kept beside the driver nothing is changed; where it is off nobody asks."""
        old = locked(debian(nvidia(DEBIAN_OLD), DEBIAN_NOW))
        old["contents"]["virtualbox"] = virtualbox.part("ubuntu-18.04", "6.0.24")
        later = debian(nvidia(DEBIAN_OLD), DEBIAN_NEXT)
        found, asked = resolver_for(later, {}, True), contents.Options(virtualbox=True, virtualbox_version="6.0.24")
        with pytest.raises(RefusedError, match=f"6.0.24 does not compile against kernel {DEBIAN_NEXT}"):
            update.prepare(found, later, old, None, {}, options=asked)
        assert update.prepare(found, later, old, None, {})["kernel"]["release"] == DEBIAN_NEXT
