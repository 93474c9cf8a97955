"""A lock that names each .deb of its driver is carried out exactly, also when the archive has others by now."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import pytest

from gpuhost.errors import ArtifactError, RefusedError
from gpuhost.host import download
from gpuhost.host.driver.apt import Apt
from gpuhost.host.driver.set import DriverSet, ExactSet
from gpuhost.host.work import Work

from .test_driver_setup import DRIVER, KERNEL, VERSION, Host
from .vendor import Vendor

LIBRARY = "libnvidia-compute-525"
MODULES = "linux-modules-nvidia-525-generic-hwe-18.04"
KEPT = "https://snapshot.example/ubuntu/20230601T000000Z/pool/restricted/n"


def deb(name: str, version: str, **more: Any) -> Dict[str, Any]:
    """Return a .deb as a lock names it."""
    file = f"{name}_{version}_amd64.deb"
    content = hashlib.sha256(name.encode()).hexdigest()
    return {"name": name, "version": version, "sha256": content, "size": len(name), "file": file,
            "snapshot": f"{KEPT}/{file}", **more}  # fmt: skip


def source(name: str) -> str:
    """Return the source package of a package."""
    return "linux-restricted-modules" if name.startswith("linux-modules") else "nvidia-graphics-drivers-525"


PACKAGES = [
    deb(LIBRARY, VERSION),
    deb(MODULES, "5.4.0-150.167"),
    deb(f"linux-modules-nvidia-525-{KERNEL}", "5.4.0-150.167"),
    deb("nvidia-driver-525", VERSION),
]
LOCKED = {**DRIVER, "sha256": PACKAGES[3]["sha256"], "packages": PACKAGES}


class Moved(Host):
    """A host whose archive offers, of the locked packages, those that `offers` names; `served` is what was fetched."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The archive has dropped the driver and its library, and has a newer one; nothing is in the cache."""
        super().__init__(folder)
        self.offers.update({"nvidia-driver-525": ["525.125.06-0ubuntu1"], LIBRARY: ["525.125.06-0ubuntu1"]})
        self.served: List[str] = []
        self.fields = ""
        self.simulated = "".join(
            f"Inst {one['name']} ({one['version']} {'Ubuntu:18.04/bionic-updates' if 'modules' in one['name'] else ''}"
            " [amd64])\n"
            for one in PACKAGES
        )
        monkeypatch.setattr(download, "obtain", self.obtain)

    def obtain(self, cache: Path, file: Dict[str, Any], say: Any) -> bool:
        """Stand in for the download of a file."""
        self.served.append(file["url"])
        name = file["name"].partition("_")[0]
        place = download.place(cache, file)
        place.parent.mkdir(parents=True)
        place.write_text(name, encoding="utf-8")
        return True

    def run(self, argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        """Answer as apt and dpkg do."""
        words = list(argv)
        if words[0] == "dpkg-deb":
            name, version = Path(words[-1]).name.split("_")[:2]
            text = f"Package: {name}\nVersion: {version}\nSource: nvidia-graphics-drivers-525\nArchitecture: amd64\n"
            return 0, self.fields or text + "Installed-Size: 7\n", ""
        if "show" in words:
            self.asked.append(words)
            text = "Package: {}\nVersion: {}\nSource: {}\nArchitecture: amd64\nSHA256: {}\n\n"
            pairs = [word.split("=") for word in words if "=" in word and "::" not in word]
            known = {one["name"]: one["sha256"] for one in PACKAGES}
            return (
                0,
                "".join(
                    text.format(*pair, source(pair[0]), self.sha256 or known.get(pair[0], "1" * 64)) for pair in pairs
                ),
                "",
            )
        return super().run(argv, timeout)

    def locked(self, **change: Any) -> DriverSet:
        """Return what the lock asks of this host."""
        return self.setup(driver={**LOCKED, **change}).set

    def exact(self, **change: Any) -> ExactSet:
        """Return the exact set of a lock."""
        return self.locked(**change).exact_set()


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Moved:
    """A host whose archive moved on after the lock was made."""
    found = Moved(tmp_path, monkeypatch)
    found.sha256 = ""
    return found


def test_what_the_archive_dropped_comes_from_where_it_is_kept_for_good(host: Moved) -> None:
    """With an empty cache: what the archive still has is taken from there, and all of it at the lock's versions."""
    members, install, remove = host.exact()
    assert host.served == [PACKAGES[3]["snapshot"], PACKAGES[0]["snapshot"]]
    assert {m["name"]: (m["version"], m["sha256"]) for m in members} == {
        one["name"]: (one["version"], one["sha256"]) for one in PACKAGES
    }
    assert next(m for m in members if m["name"] == LIBRARY)["unpacked"] == 7 * 1024
    assert len(install) == 4 and remove == []
    simulated = next(words for words in host.asked if "--simulate" in words)
    files = [word for word in simulated if word.endswith(".deb")]
    assert [Path(word).name for word in files] == [PACKAGES[3]["file"], PACKAGES[0]["file"]]
    assert f"{MODULES}=5.4.0-150.167" in simulated and "Dir::Etc::SourceParts=/dev/null" not in simulated
    assert host.exact().members == members and len(host.served) == 2, "the second time they are in the cache"


def test_an_archive_that_has_all_of_it_is_asked_for_each_version(host: Moved) -> None:
    """Nothing is fetched from elsewhere."""
    host.offers.update({"nvidia-driver-525": [VERSION], LIBRARY: ["525.125.06-0ubuntu1", VERSION]})
    host.simulated = host.simulated.replace(f"({VERSION} ", f"({VERSION} Ubuntu:18.04/bionic-updates")
    host.exact()
    simulated = next(words for words in host.asked if "--simulate" in words)
    assert {f"{one['name']}={one['version']}" for one in PACKAGES} <= set(simulated) and host.served == []


def test_a_lock_without_addresses_is_refused_when_nobody_has_the_files(host: Moved) -> None:
    """Ubuntu 18.04 has no service that keeps its archive: there the cache is all there is (D05)."""
    bare = [{**one, "snapshot": None} for one in PACKAGES]
    with pytest.raises(RefusedError, match=r"no other place to have them from\. \(D05\)"):
        host.exact(packages=bare)
    cache = host.locked().apt
    for one in bare:
        cache.place(one).parent.mkdir(parents=True)
        cache.place(one).write_text(one["name"], encoding="utf-8")
    assert len(host.exact(packages=bare).members) == 4
    assert host.served == []


def test_a_dry_run_tells_what_would_come_and_fetches_nothing(host: Moved, tmp_path: Path) -> None:
    """The lock names each package, so apt need not be asked."""
    asked = host.locked()
    asked.apt.aside = tmp_path / "aside"
    found = asked.exact_set()
    assert [change.name for change in found.install] == [one["name"] for one in PACKAGES]
    assert host.served == [] and not any("--simulate" in words for words in host.asked)


def test_a_file_that_is_another_package_is_not_installed(host: Moved) -> None:
    """Its checksum is the lock's, so the lock is wrong."""
    host.fields = "Package: backdoor\nVersion: 1\nArchitecture: amd64\n"
    with pytest.raises(ArtifactError, match=r"is not nvidia-driver-525"):
        host.exact()


def test_a_package_of_the_driver_that_the_lock_does_not_name_is_refused(host: Moved) -> None:
    """A lock that is closed is carried out as it stands."""
    host.simulated += f"Inst nvidia-utils-525 ({VERSION} Ubuntu:18.04/bionic-updates [amd64])\n"
    with pytest.raises(RefusedError, match=r"install nvidia-utils-525 .* which the lock does not name"):
        host.exact()


def test_each_checksum_of_the_archive_is_held_against_the_lock(host: Moved) -> None:
    """Not the driver's own alone."""
    host.sha256 = "0" * 64
    with pytest.raises(ArtifactError, match=r"has the checksum 0{64}, the lock has"):
        host.exact()


def test_a_foreign_origin_is_refused_beside_files_of_the_cache(host: Moved) -> None:
    """Only what was fetched by its checksum needs no origin."""
    host.simulated += "Inst libx11-6 (2:1.6.4 LP-PPA-graphics:18.04/bionic [amd64])\n"
    with pytest.raises(RefusedError, match=r"libx11-6 2:1\.6\.4 comes from LP-PPA-graphics"):
        host.exact()


@pytest.mark.skipif(shutil.which("dpkg-deb") is None, reason="there is no dpkg-deb here")
def test_a_deb_comes_over_https_past_a_redirect_and_only_the_right_one_is_kept(vendor: Vendor, tmp_path: Path) -> None:
    """As Debian's snapshot archive answers for a moment between two snapshots. The package is a real one."""
    control = tmp_path / "tree" / "DEBIAN" / "control"
    control.parent.mkdir(parents=True)
    control.write_text(
        "Package: nvidia-smi\nVersion: 1:535.1-1\nSource: nvidia-graphics-drivers\nArchitecture: amd64\n"
        "Maintainer: a <a@b.example>\nInstalled-Size: 7\nDescription: x\n",
        encoding="utf-8",
    )
    file = tmp_path / "nvidia-smi_535.1-1_amd64.deb"
    subprocess.run(["dpkg-deb", "--build", str(tmp_path / "tree"), str(file)], check=True, capture_output=True)
    content = file.read_bytes()
    offered = vendor.offer(file.name, content)
    locked = {
        "name": "nvidia-smi",
        "version": "1:535.1-1",
        "sha256": offered["sha256"],
        "size": len(content),
        "file": file.name,
        "snapshot": f"{vendor.url}/archive/20261127T210335Z/{file.name}",
    }
    apt = Apt(tmp_path / "opt", "debian", Work(tmp_path / "log", lambda text: None))
    vendor.faults = [offered["url"]]
    member = apt.bring_back(locked)
    assert [path for path, _ in vendor.asked] == [f"/archive/20261127T210335Z/{file.name}", f"/v/{file.name}"]
    assert (member["source"], member["arch"], member["unpacked"]) == ("nvidia-graphics-drivers", "amd64", 7 * 1024)
    assert apt.cached(member) == apt.place(locked)
    assert apt.bring_back(locked) == member and len(vendor.asked) == 2, "it was in the cache"
    vendor.files[f"/v/{file.name}"] = b"!" * len(content)
    vendor.faults = [offered["url"]]
    apt.place(locked).unlink()
    with pytest.raises(ArtifactError, match="is not the file that was locked"):
        apt.bring_back(locked)
    assert not apt.place(locked).exists()
