"""A lock is what a stranger can propose: only what its schema, its host and its origins allow is believed."""

from __future__ import annotations

import copy
import functools
import json
import subprocess
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest

from gpuhost.errors import LockError, UsageError
from gpuhost.planning import lock, plan
from gpuhost.planning.catalog import DATA, shipped
from gpuhost.planning.offers import resolver_for
from gpuhost.planning.request import request_of

from ..example_hosts import observed
from ..locks import stack
from ..offered import offering

Json = Dict[str, Any]
TEMPLATE = "{{ lookup('pipe', 'id > /tmp/owned') }}"
#: Texts that no place of a lock may have, whatever else is allowed there.
PAYLOADS = [TEMPLATE, "{% raw %}", "{# x #}", "a\nb", "\x1b[2J", "x" * 50_000, "", "\N{RIGHT-TO-LEFT OVERRIDE}a"]


@functools.lru_cache(maxsize=None)
def files_beside(name: str) -> Dict[str, str]:
    """The files that the lock of an example host names."""
    observation = offering(observed(name))
    found = resolver_for(observation, {}, bool(observation["gpus"]))
    return lock.files(lock.make("box", observation, plan.make(found, request_of(found, observation, {}))))


def made(host: str = "box", name: str = "ubuntu1804-quadro-p2000") -> Json:
    """A lock as plan.yml writes it."""
    observation = offering(observed(name))
    found = resolver_for(observation, {}, bool(observation["gpus"]))
    planned = plan.make(found, request_of(found, observation, {}))
    return stack(lock.make(host, observation, planned))


def loaded(tmp_path: Path, content: Any, host: str = "box") -> Json:
    """What comes of a lock file with this content, beside the files of the locks that `made` makes."""
    for name in ("ubuntu1804-quadro-p2000", "ubuntu1804-h200", "debian12-no-gpu"):
        for beside, text in files_beside(name).items():
            if not (tmp_path / beside).exists():
                (tmp_path / beside).write_text(text, encoding="utf-8")
    file = tmp_path / "stack.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return lock.load(file, host)


def places(value: Any, path: Tuple[Any, ...] = ()) -> Iterator[Tuple[Any, ...]]:
    """Every place in a lock where a text stands."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from places(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from places(inner, (*path, at))
    elif isinstance(value, str):
        yield path


def changed(whole: Json, path: Tuple[Any, ...], value: Any) -> Json:
    """A copy with another value in one place."""
    copied = copy.deepcopy(whole)
    inner: Any = copied
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copied


@pytest.mark.parametrize(
    ("name", "each"),
    [
        ("ubuntu1804-quadro-p2000", 1),
        ("debian12-no-gpu", len(PAYLOADS)),
        pytest.param("ubuntu1804-quadro-p2000", len(PAYLOADS), marks=pytest.mark.full),
        pytest.param("ubuntu1804-h200", len(PAYLOADS), marks=pytest.mark.full),
    ],
)
def test_no_text_of_a_lock_can_be_a_template_or_an_escape(tmp_path: Path, name: str, each: int) -> None:
    """In each of its places, one at a time, with some or all of the payloads: the whole lock is refused, in one short
    line.
    """
    whole = made(name=name)
    found = [path for path in places(whole) if path != (lock.KEY, "plan", "status")]
    assert len(found) > 10
    for number, path in enumerate(found):
        for payload in (PAYLOADS * 2)[number % len(PAYLOADS) :][:each]:
            with pytest.raises(LockError) as caught:
                loaded(tmp_path, changed(whole, path, payload))
            assert str(caught.value).isprintable() and len(str(caught.value)) < 1500, path


def test_a_text_of_many_megabytes_is_refused_in_one_short_line(tmp_path: Path) -> None:
    """In the first place that a lock has."""
    whole = made()
    with pytest.raises(LockError) as caught:
        loaded(tmp_path, changed(whole, next(places(whole)), "x" * 5_000_000))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 1500


@pytest.mark.parametrize("name", ["ubuntu1804-quadro-p2000", "debian12-no-gpu"])
def test_no_key_stands_beside_those_of_the_schema(tmp_path: Path, name: str) -> None:
    """At every depth. `removal_confirm` beside the lock's own key once removed a host's whole store."""
    whole = made(name=name)
    folders = {path[:depth] for path in places(whole) for depth in range(len(path))}
    for path in folders:
        inner: Any = copy.deepcopy(whole)
        top = inner
        for key in path:
            inner = inner[key]
        if isinstance(inner, dict):
            inner["removal_confirm"] = "localhost"
            with pytest.raises(LockError):
                loaded(tmp_path, top)


def without_host(path: Tuple[Any, ...]) -> Callable[[Json, Any], Json]:
    """Set one place below `plan`."""
    return lambda whole, value: changed(whole, (lock.KEY, "plan", *path), value)


NVIDIA, RUN = "https://developer.download.nvidia.com", "cuda_11.8.0_520.61.05_linux.run"
SWAPS: List[Tuple[str, Tuple[Any, ...], Any]] = [
    ("a mirror of one's own", ("cuda", "url"), f"https://evil.example/compute/{RUN}"),
    ("http", ("cuda", "url"), f"http://developer.download.nvidia.com/compute/{RUN}"),
    ("a user in the address", ("cuda", "url"), f"{NVIDIA}@evil.example/{RUN}"),
    ("a port", ("cuda", "url"), f"{NVIDIA}:8443/{RUN}"),
    ("a longer host", ("cuda", "url"), f"{NVIDIA}.evil.example/{RUN}"),
    ("dots in the address", ("cuda", "url"), f"{NVIDIA}/a/../{RUN}"),
    ("escaped dots", ("cuda", "url"), f"{NVIDIA}/%2e%2e/{RUN}"),
    ("a query", ("cuda", "url"), f"{NVIDIA}/{RUN}?x=1"),
    ("another file", ("cuda", "url"), "https://developer.download.nvidia.com/compute/other.run"),
    ("another component's origin", ("cuda", "url"), f"https://github.com/opencv/{RUN}"),
    ("a path for a file", ("cuda", "file"), "../../root/.ssh/authorized_keys"),
    ("a path for a Python", ("tensorflow", "python"), "3.8/../../tmp/x"),
    ("a path for an environment", ("tensorflow", "environment"), "../../x"),
    ("a path for a kernel's modules", ("driver", "package"), "nvidia-driver-525/../x"),
    ("an option for a package", ("driver", "package"), "-oAPT::Update::Pre-Invoke::=id"),
    ("a shell word for a version", ("driver", "package_version"), "1;id"),
    ("an unknown capability", ("opencv", "cuda_arch_bin"), ["6.1 -DX=1"]),
    ("no checksum", ("cuda", "sha256"), ""),
    ("half a checksum", ("cuda", "sha256"), "a" * 63),
    ("a version of 400 digits", ("cuda", "version"), "1" * 400),
    ("a number of 400 digits", ("driver", "size"), 10**399),
    ("a number for a text", ("cuda", "version"), 11.8),
    ("another source's keys", ("driver", "source"), "runfile"),
    ("a million notes", ("notes",), [{"about": "a", "unverified": False, "text": "x"}] * 10_000),
]


@pytest.mark.parametrize(("path", "value"), [row[1:] for row in SWAPS], ids=[row[0] for row in SWAPS])
def test_a_file_from_elsewhere_is_refused(tmp_path: Path, path: Tuple[Any, ...], value: Any) -> None:
    """With its checksum swapped together, which a checksum alone cannot notice."""
    whole = made()
    whole[lock.KEY]["plan"]["cuda"]["sha256"] = "0" * 64  # the attacker's file has another
    with pytest.raises(LockError):
        loaded(tmp_path, without_host(path)(whole, value))


def test_a_checksum_or_address_of_another_release_is_refused(tmp_path: Path) -> None:
    """Two real files exchanged: cuDNN's under CUDA's name, or an old CUDA under a new version."""
    whole = made()
    cuda, cudnn = whole[lock.KEY]["plan"]["cuda"], whole[lock.KEY]["plan"]["cudnn"]
    other = next(row["runfile"] for row in shipped().cuda["releases"] if row["version"] == "10.0.130")
    for change in ({"sha256": cudnn["sha256"]}, {name: other[name] for name in ("file", "url", "sha256")}):
        swapped = changed(whole, (lock.KEY, "plan", "cuda"), {**cuda, **change})
        with pytest.raises(LockError, match="belongs to"):
            loaded(tmp_path, swapped)


def test_a_checksum_that_the_catalog_does_not_know_is_the_locks_own(tmp_path: Path) -> None:
    """A lock outlives the catalog that it was made from."""
    whole = changed(made(), (lock.KEY, "plan", "cuda", "sha256"), "0" * 64)
    assert loaded(tmp_path, whole)["plan"]["cuda"]["sha256"] == "0" * 64


def test_the_lock_of_another_host_is_refused(tmp_path: Path) -> None:
    """One that several hosts share names them all."""
    whole = made("alpha")
    with pytest.raises(LockError, match="is for alpha, not for beta"):
        loaded(tmp_path, whole, "beta")
    shared = changed(whole, (lock.KEY, "host"), ["alpha", "beta"])
    assert loaded(tmp_path, shared, "beta")["host"] == ["alpha", "beta"]
    with pytest.raises(LockError, match="not for gamma"):
        loaded(tmp_path, shared, "gamma")
    for host in (["alpha", "alpha"], [], {"alpha": 1}, ["alpha", TEMPLATE]):
        with pytest.raises(LockError):
            loaded(tmp_path, changed(whole, (lock.KEY, "host"), host), "alpha")


def test_a_large_file_is_not_read(tmp_path: Path) -> None:
    """The limit comes before the parser."""
    with pytest.raises(LockError, match="larger than"):
        loaded(tmp_path, " " * lock.LARGEST + json.dumps(made()))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"gpuhost_lock": ' * 5000, '{"gpuhost_lock": NaN}', '"x"', "null"])
def test_odd_json_is_one_sentence(tmp_path: Path, text: str) -> None:
    """No traceback, no recursion error."""
    with pytest.raises(LockError):
        loaded(tmp_path, text)


def test_a_card_without_a_driver_is_no_plan(tmp_path: Path) -> None:
    """Each part that a card needs, one at a time."""
    for part in ("driver", "cuda", "cudnn"):
        with pytest.raises(LockError, match=f"has no {part}"):
            loaded(tmp_path, changed(made(), (lock.KEY, "plan", part), None))


def test_a_lock_at_its_former_place_is_refused_with_the_command_that_moves_it(tmp_path: Path) -> None:
    """The command is run, and the lock and the one of an unfinished rebuild are read from their new place."""
    inventory = tmp_path / "my inventory"
    place = lock.place("box", inventory)
    assert place.file == tmp_path / "locks" / "box" / "stack.json" and place.former is not None
    place.former.parent.mkdir(parents=True)
    place.former.write_text(json.dumps(made()), encoding="utf-8")
    place.former.with_name("stack.json.new").write_text(json.dumps(made()), encoding="utf-8")
    (place.former.parent / "wishes.yml").write_text("{}", encoding="utf-8")
    with pytest.raises(LockError, match="Ansible loads by itself") as caught:
        lock.load(place.file, "box", place.former)
    assert caught.value.next_step.startswith("Move it: ")
    subprocess.run(["sh", "-c", caught.value.next_step[len("Move it: ") :]], check=True)
    assert sorted(path.name for path in place.file.parent.iterdir()) == ["stack.json", "stack.json.new"]
    for name, text in files_beside("ubuntu1804-quadro-p2000").items():
        place.file.with_name(name).write_text(text, encoding="utf-8")
    assert lock.load(place.file, "box", place.former)["host"] == "box"
    assert [path.name for path in place.former.parent.iterdir()] == ["wishes.yml"]
    place.former.write_text("{}", encoding="utf-8")
    with pytest.raises(LockError, match="folder that Ansible loads"):
        lock.load(place.file, "box", place.former)


def test_where_locks_are(tmp_path: Path) -> None:
    """Beside the inventory's folder, or where the user says; a host's name never leads elsewhere."""
    (tmp_path / "link").symlink_to(tmp_path / "real" / "inventory")
    assert lock.place("gpu-1.lab", tmp_path / "inventory").file == tmp_path / "locks/gpu-1.lab/stack.json"
    assert lock.place("a/../b", tmp_path / "inventory").file == tmp_path / "locks/a%2F..%2Fb/stack.json"
    assert lock.place("..", tmp_path / "inventory").file == tmp_path / "locks/%2E./stack.json"
    assert lock.place("box", tmp_path / "link").file == tmp_path / "real/locks/box/stack.json"
    assert lock.place("box", None, "/srv/locks").file == Path("/srv/locks/box/stack.json")
    assert lock.place("box", None, file="/x/y.json").file == Path("/x/y.json")
    with pytest.raises(UsageError, match="gpu_stack_locks") as caught:
        lock.place("box", None)
    assert "-e gpu_stack_locks=" in caught.value.next_step


def test_every_address_of_the_catalog_is_of_a_known_origin() -> None:
    """Else a plan would make a lock that is refused."""
    addresses = [value for value in lock.owners() if value.startswith("http")]
    assert len(addresses) > 300
    for address in addresses:
        (component,) = {name for name, _ in lock.owners()[address]}
        assert address.startswith(lock.origins(component)), address


def test_the_schema_leaves_nothing_open() -> None:
    """Every object is closed and every string has a pattern and a length."""
    schema = json.loads((DATA / "lock.schema.json").read_text(encoding="utf-8"))

    def walk(value: Any, path: str) -> None:
        if isinstance(value, dict):
            kinds = value.get("type")
            if kinds == "object":
                assert value.get("additionalProperties") is False, path
            if kinds == "string":
                assert {"pattern", "maxLength"} <= set(value), path
            if kinds == "array":
                assert "maxItems" in value, path
            if kinds == "integer":
                assert {"minimum", "maximum"} <= set(value), path
            assert not isinstance(kinds, list), path
            for key, inner in value.items():
                walk(inner, f"{path}.{key}")
        elif isinstance(value, list):
            for inner in value:
                walk(inner, path)

    walk({**schema["properties"], **schema["definitions"]}, "")
