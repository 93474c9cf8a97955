"""What a host still needs of its lock: room by file system, whom it asks, and nothing of what is there already."""

from __future__ import annotations

import copy
from typing import Any, Dict, List

import pytest

from gpuhost.host import venvs
from gpuhost.host.room import BUILD_BYTES
from gpuhost.planning import contents, detector, lock, needs, plan
from gpuhost.planning.candidates import COMPONENTS
from gpuhost.planning.environments import lock_digest
from gpuhost.planning.offers import resolver_for
from gpuhost.planning.request import request_of

from ..example_hosts import observed
from ..offered import offering

Json = Dict[str, Any]
NOTHING: Json = {
    "current": None, "generations": [], "artifacts": [], "debs": [], "wheels": [], "store": [], "build_seconds": {},
}  # fmt: skip
ROOT = "/opt/gpuhost"


def host(name: str) -> Json:
    """An example host whose archive offers drivers, and where no driver is installed."""
    observation = offering(observed(name)) if "ubuntu" in name else observed(name)
    return {**observation, "packages": {}, "nvidia": {**observation["nvidia"], "module_version": None}}


def locked(observation: Json) -> Json:
    """Its lock."""
    found = resolver_for(observation, {}, bool(observation["gpus"]))
    return lock.make("box", observation, plan.make(found, request_of(found, observation, {})))


CPU, P2000 = host("debian12-no-gpu"), host("ubuntu1804-quadro-p2000")
LOCKS = {"cpu": locked(CPU), "p2000": locked(P2000)}


def of(
    which: str, there: Json = NOTHING, parts: Any = COMPONENTS, observation: Any = None, kernel: Any = (), **asked: Any
) -> Json:
    """The needs of one of the two hosts."""
    seen = observation or {"cpu": CPU, "p2000": P2000}[which]
    return needs.of(LOCKS[which], seen, there, ROOT, contents.Options(**asked), parts, kernel)


def is_built(driver: Json) -> bool:
    """Return whether the module is built on the host."""
    return bool(driver["modules_from"] == "dkms")


def room(found: Json) -> Dict[str, int]:
    """Its bytes by path."""
    return {row["path"]: row["bytes"] for row in found["room"]}


def held(which: str) -> List[str]:
    """The files of all packages of a lock's environments."""
    return [row["file"] for one in LOCKS[which]["environments"].values() for row in one["packages"]]


def folders(which: str) -> List[str]:
    """The store's names of its environments."""
    return [
        venvs.folder_of(venvs.Path(ROOT), name, {**one, "digest": lock_digest(one)}).name
        for name, one in LOCKS[which]["environments"].items()
    ]


def test_a_bare_host_without_a_card() -> None:
    """Both environments with what they unpack to, the index, and the archive's Pythons; nothing of a driver."""
    found = of("cpu")
    assert room(found) == {ROOT: sum(venvs.room(one) for one in LOCKS["cpu"]["environments"].values())}
    assert (found["index"], found["boot"], found["files"], found["debs"]) == ("Python packages", False, [], [])
    assert "python3-venv" in found["packages"]
    assert found["archive"] and all(url.startswith("http") for url in found["archive"])


def test_a_bare_host_with_a_card() -> None:
    """The driver's packages in the store, unpacked below /usr, its module and initramfs; CUDA's and cuDNN's files."""
    driver, found = LOCKS["p2000"]["plan"]["driver"], of("p2000")
    sizes = sum(row["size"] for row in driver["packages"])
    assert room(found)["/usr"] == 4 * sizes
    assert found["boot"] and set(found["debs"]) >= set(needs.archive(P2000)) != set()
    names = [file["name"] for file in found["files"]]
    assert any("cuda" in name for name in names) and any("cudnn" in name for name in names)
    environments = sum(venvs.room(one) for one in LOCKS["p2000"]["environments"].values())
    assert room(found)[ROOT] > environments + sizes


def test_what_the_caches_hold_is_asked_of_nobody() -> None:
    """The room to unpack it is needed still."""
    there = {**NOTHING, "wheels": held("cpu")}
    assert of("cpu", there)["index"] == "" and room(of("cpu", there)) == room(of("cpu"))
    files = of("p2000")["files"]
    debs = [row["sha256"] for row in LOCKS["p2000"]["plan"]["driver"]["packages"]]
    there = {**NOTHING, "wheels": held("p2000"), "artifacts": [file["sha256"] for file in files], "debs": debs}
    found = of("p2000", there)
    assert (found["files"], found["debs"]) == ([], []) and found["boot"]


def test_the_detection_service_brings_its_packages_and_nginx() -> None:
    """Where it is asked for: in OpenCV's environment, and from the archive."""
    asked = contents.Options(service=True)
    value = contents.added(LOCKS["cpu"], asked)
    found = needs.of(value, CPU, NOTHING, ROOT, asked)
    more = [row for row in value["environments"]["service"]["packages"] if row["name"] != "pip"]
    assert room(found)[ROOT] == room(of("cpu"))[ROOT] + venvs.room({"packages": more})
    assert "nginx" in found["packages"] and "nginx" not in of("cpu")["packages"]
    assert "nginx" not in needs.of(value, CPU, NOTHING, ROOT, asked, ["tensorflow"])["packages"]


def test_one_missing_file_is_enough_to_ask() -> None:
    """The index is asked for one wheel as for all."""
    assert of("cpu", {**NOTHING, "wheels": held("cpu")[1:]})["index"] == "Python packages"


def test_what_stands_in_the_store_needs_no_room() -> None:
    """Environments by their digests."""
    found = of("cpu", {**NOTHING, "store": folders("cpu")})
    assert (found["room"], found["index"]) == ([], "")
    part = of("cpu", {**NOTHING, "store": folders("cpu")[:1]})
    assert 0 < room(part)[ROOT] < room(of("cpu"))[ROOT]


@pytest.mark.parametrize("which", LOCKS)
def test_a_host_whose_generation_carries_the_lock_out_needs_nothing(which: str) -> None:
    """Whatever the caches have lost; of another lock it needs what that names."""
    row = {"number": 4, "stack": copy.deepcopy(LOCKS[which]), "links": {}}
    assert of(which, {**NOTHING, "current": 4, "generations": [row]}) == needs.nothing()
    assert of(which, {**NOTHING, "current": None, "generations": [row]}) != needs.nothing()
    row["stack"]["contents"]["weights"] = [{"name": "x"}]
    assert of(which, {**NOTHING, "current": 4, "generations": [row]}) != needs.nothing()


def test_an_installed_driver_is_not_brought_again() -> None:
    """Its package is there at the locked version, and not merely its configuration."""
    driver = LOCKS["p2000"]["plan"]["driver"]
    row = {"version": driver["package_version"], "state": "installed", "hold": True}
    for state, boot in (("installed", False), ("config-files", True), ("half-configured", True)):
        seen = {**P2000, "packages": {driver["package"]: {**row, "state": state}}}
        assert of("p2000", observation=seen)["boot"] is boot
        assert ("/usr" in room(of("p2000", observation=seen))) is boot


def with_driver(*absent: str) -> Json:
    """The host with the card once its driver is installed, but for some packages."""
    driver = LOCKS["p2000"]["plan"]["driver"]
    versions = {row["name"]: row["version"] for row in driver["packages"]}
    versions[driver["package"]] = driver["package_version"]
    versions["linux-image-generic"] = "5.4.0.150"
    there = {name: version for name, version in versions.items() if name not in absent}
    return {
        **P2000,
        "packages": {name: {"version": v, "state": "installed", "hold": True} for name, v in there.items()},
    }


def test_a_newer_kernel_comes_with_the_module_of_the_driver_that_is_there() -> None:
    """Its packages are asked of the archive, though the lock is in force; of the driver only what is not installed."""
    driver = LOCKS["p2000"]["plan"]["driver"]
    modules = driver["packages"][0]
    there = {**NOTHING, "current": 4, "generations": [{"number": 4, "stack": LOCKS["p2000"], "links": {}}]}
    kernel = ["linux-image-generic", "linux-image-5.4.0-152-generic"]
    found = of("p2000", there, ["driver"], with_driver(modules["name"]), kernel)
    assert found["packages"] == ["linux-image-5.4.0-152-generic"] and found["archive"] == needs.archive(P2000)
    assert found["boot"] and room(found)["/usr"] == 4 * modules["size"] and found["debs"]
    assert room(found).get(ROOT, 0) == modules["size"]
    whole = of("p2000", there, ["driver"], with_driver(), kernel)
    assert whole["boot"] and whole["debs"] == [] and room(whole) == ({"/var": BUILD_BYTES} if is_built(driver) else {})


def test_a_kernel_that_is_there_needs_nothing() -> None:
    """The metapackages lead to the one that boots."""
    there = {**NOTHING, "current": 4, "generations": [{"number": 4, "stack": LOCKS["p2000"], "links": {}}]}
    assert of("p2000", there, ["driver"], with_driver(), ["linux-image-generic"]) == needs.nothing()


def test_only_what_will_be_installed_counts() -> None:
    """A playbook of one component."""
    assert of("p2000", parts=["driver"])["index"] == ""
    assert room(of("cpu", parts=["tensorflow"])) == {ROOT: venvs.room(LOCKS["cpu"]["environments"]["dl4cv"])}
    assert of("cpu", parts=["cuda", "cudnn", "driver"]) == needs.nothing()


def test_published_weights_are_fetched_where_they_are_asked_for() -> None:
    """By their checksums, as the lock has them."""
    with_weights = {**LOCKS["cpu"], "contents": {**LOCKS["cpu"]["contents"], "weights": detector.published()}}
    asked = contents.Options(published_weights=True)
    found = needs.of(with_weights, CPU, NOTHING, ROOT, asked)
    assert [file["sha256"] for file in found["files"]] == [row["sha256"] for row in with_weights["contents"]["weights"]]
    assert room(found)[ROOT] - room(of("cpu"))[ROOT] == sum(row["size"] for row in found["files"])
