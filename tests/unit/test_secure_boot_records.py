"""What real machines said in each state of Secure Boot, against what the parsers make of it (tests/data/secureboot)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Dict, List, NamedTuple, Tuple

import pytest

from gpuhost.checks.base import FAIL
from gpuhost.checks.card import REFUSED
from gpuhost.doctor import messages
from gpuhost.host.driver import key
from gpuhost.host.driver.modules import asks_for_signature
from gpuhost.host.edges import Edges
from gpuhost.host.parse.machine import parse_mokutil
from gpuhost.host.parse.nvidia import parse_module_version
from gpuhost.host.probe.driver import parse_modinfo, parse_test_key
from gpuhost.host.probe.machine import read_secure_boot
from gpuhost.host.probe.signs import telling_lines

from .. import recorded
from ..e2e.beds import signing
from ..e2e.beds.standins import elf
from ..recorded import said
from .collected import judged
from .faults import fresh, put

OWN, STRANGE = "/var/lib/shim-signed/mok/MOK.der", "/root/strange/key.der"
MODULES = ("hello_unsigned", "hello_strange", "hello_own", "hello_changed")


#: A module, and the lines that the kernel's log has of it when only the own key is known.
IMITATED = [
    ("hello_unsigned", ["Loading of unsigned module is rejected"]),
    ("hello_strange", ["Loading of module with unavailable key is rejected"]),
    ("hello_changed", []),
    ("hello_own", []),
]


#: What verify/ finds on such a host: the checks that fail, each with its diagnosis.
VERDICTS = {
    **{name: {"driver.signed": "D12"} for name in ("not-enrolled", "pending", "missed", "lockdown-alone")},
    **{name: {} for name in ("enrolled", "later-kernel-healed", "validation-off", "setup-mode")},
}


class State(NamedTuple):
    """What is true of a recorded machine: what the kernel enforces, whether it knows the own key, what is let in."""

    secure_boot: str
    enrolled: bool
    let_in: Tuple[str, ...]


STATES = {
    "not-enrolled": State("enabled", False, ()),
    "pending": State("enabled", False, ()),
    "missed": State("enabled", False, ()),
    "enrolled": State("enabled", True, ("hello_own",)),
    # The firmware says one thing, and shim has told the kernel another.
    "validation-off": State("not-enforced", True, MODULES),
    "later-kernel": State("enabled", True, ("hello_own",)),
    "later-kernel-healed": State("enabled", True, ("hello_own",)),
    "debian-13": State("enabled", True, ("hello_own",)),
    "setup-mode": State("disabled", False, MODULES),
    # No variable shows a lockdown that was asked for by hand or on the kernel's command line.
    "lockdown-alone": State("lockdown", False, ()),
}


def insmod(name: str, module: str) -> Tuple[int, str, str]:
    """What became of a small module."""
    return said(name, "insmod", f"/root/modules/{module}.ko")


def refusals(name: str) -> List[str]:
    """The lines of the kernel's log by which the checks know a refusal, of those that the probe keeps."""
    return [line for line in telling_lines(said(name, "dmesg")[1]) if re.search(REFUSED, line)]


def test_every_record_is_tested() -> None:
    """A state that was recorded and stands in no table would be looked at by nobody."""
    assert sorted(STATES) == recorded.NAMES


@pytest.mark.parametrize("name", STATES)
class TestState:
    """One recorded machine."""

    def test_the_kernel_let_in_what_the_table_says(self, name: str) -> None:
        """The table stands on what insmod did."""
        assert tuple(module for module in MODULES if insmod(name, module)[0] == 0) == STATES[name].let_in

    def test_the_probe_says_what_the_kernel_enforces(self, name: str, tmp_path: Path) -> None:
        """From the recorded files alone, and in agreement with whether the kernel let the unsigned module in."""
        recorded.write(name, tmp_path)
        edges = Edges(str(tmp_path), lambda argv, timeout: (127, "", ""))
        state = read_secure_boot(edges)
        assert state == STATES[name].secure_boot and edges.problems == []
        assert asks_for_signature(state, None) is ("hello_unsigned" not in STATES[name].let_in)

    def test_mokutil_agrees_but_for_a_lockdown(self, name: str) -> None:
        """It knows the firmware and shim, and not what the kernel was told on its command line."""
        _, out, err = said(name, "mokutil", "--sb-state")
        assert parse_mokutil(out + err) == {"lockdown": "disabled"}.get(
            STATES[name].secure_boot, STATES[name].secure_boot
        )

    def test_the_key_is_known_to_the_firmware_or_not(self, name: str) -> None:
        """mokutil's sentence tells it; its exit status is 1 for a key that is enrolled."""
        for certificate, enrolled in ((OWN, STATES[name].enrolled), (STRANGE, False)):
            _, out, err = said(name, "mokutil", "--test-key", certificate)
            assert parse_test_key(out + err) is enrolled

    def test_only_a_request_is_pending(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A request that was missed at the console is gone, and one that was confirmed as well."""
        subject = parse_modinfo(said(name, "modinfo", "/root/modules/hello_own.ko")[1])["signer"]
        monkeypatch.setattr(key, "subject", lambda run: subject)
        assert key.is_pending(lambda argv, timeout: said(name, *argv)) is (name == "pending")

    def test_signers(self, name: str) -> None:
        """kmod 30 and 34 name the signer, and nobody for a module without a signature."""
        signers = [
            parse_modinfo(said(name, "modinfo", f"/root/modules/{module}.ko")[1])["signer"] for module in MODULES
        ]
        assert signers[:2] == ["", "a stranger"]
        assert signers[2] == signers[3] and signers[2].endswith(key.OWN_SUBJECT)

    def test_the_log_tells_a_refusal(self, name: str) -> None:
        """Where a module without a signature or of a strange key was refused, a line that the checks know says so."""
        expected = "hello_unsigned" not in STATES[name].let_in
        assert bool(refusals(name)) is expected

    def test_the_words_of_a_refusal_point_to_its_diagnosis(self, name: str) -> None:
        """The kernel's log as it is pasted; a kernel that lets the module in speaks of signatures too."""
        expected = "hello_unsigned" not in STATES[name].let_in
        assert ("D11" in [one.id for one, _ in messages.named(said(name, "dmesg")[1])]) is expected


@pytest.mark.parametrize("name", sorted({*STATES} - {"later-kernel", "debian-13"}))
def test_nvidias_module_is_let_in_as_the_own_one_is(name: str) -> None:
    """DKMS built it and the role signed it: what holds for a module of a few lines holds for the driver."""
    rc, _, err = said(name, "modprobe", "nvidia")
    assert (rc == 0) is ("hello_own" in STATES[name].let_in)
    # Debian's modprobe loads it under another name: the cause stands in the first line, the last one says nothing.
    assert rc == 0 or err.startswith("modprobe: ERROR: could not insert 'nvidia_current': ")
    module = parse_modinfo(said(name, "modinfo", "nvidia-current")[1])
    assert module["signer"].endswith(key.OWN_SUBJECT) and module["open"] is False
    loaded = recorded.files(name).get("/proc/driver/nvidia/version", b"").decode()
    assert (parse_module_version(loaded) is not None) is (rc == 0)


@pytest.mark.parametrize(("name", "fails"), VERDICTS.items())
def test_the_checks_of_a_recorded_host(name: str, fails: Dict[str, str], tmp_path: Path) -> None:
    """A host whose lock has the role's key: what it said is judged, and each failure has its diagnosis."""
    seen = fresh("gpu")
    recorded.write(name, tmp_path)
    loaded = said(name, "modprobe", "nvidia")[0] == 0
    module = parse_modinfo(said(name, "modinfo", "nvidia-current")[1])
    version = seen["lock"]["plan"]["driver"]["version"]
    told = {
        "plan/driver/secure_boot": "own-key",
        "driver/record/modules_from": "dkms",
        "driver/headers": True,
        # The version is the only word that is not the recorded host's.
        "driver/module": {**module, "version": version},
        "driver/key": {"made": True, "enrolled": parse_test_key(said(name, "mokutil", "--test-key", OWN)[1])},
        "signs/kernel_log": telling_lines(said(name, "dmesg")[1]),
        "observation/secure_boot": read_secure_boot(Edges(str(tmp_path), lambda argv, timeout: (127, "", ""))),
        "observation/nvidia/module_loaded": loaded,
        "observation/nvidia/module_version": version if loaded else None,
    }
    for path, value in told.items():
        put(seen, path, value)
    results = judged(seen)
    assert {key: found.diagnosis for key, found in results.items() if found.status == FAIL} == fails


def test_a_kernel_without_the_module_points_to_its_diagnosis() -> None:
    """Debian's modprobe names the module that it was redirected to."""
    rc, _, err = said("later-kernel", "modprobe", "nvidia")
    assert rc == 1 and {"D08", "D50"} == {one.id for one, _ in messages.named(err)}
    assert said("later-kernel", "modinfo", "nvidia-current")[0] == 1


def test_a_module_that_was_changed_is_refused_without_a_word() -> None:
    """The key is enrolled, the signature is another file's: insmod is told, the kernel's log is not."""
    rc, _, err = insmod("enrolled", "hello_changed")
    assert rc == 1 and "Key was rejected by service" in err
    assert "hello_changed" not in said("enrolled", "dmesg")[1]
    assert refusals("enrolled") == [line for _, lines in IMITATED for line in lines]


@pytest.mark.parametrize(("module", "refusal"), IMITATED)
def test_the_imitation_refuses_in_the_real_kernels_words(
    module: str, refusal: List[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And it is silent where the real one is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    pairs = {name: pair(tmp_path, name) for name in ("own", "strange")}
    data = elf.module("nvidia", "535.309.01", "6.1.0-55-amd64")
    if module != "hello_unsigned":
        signature = signing.sign_module(data, pairs["strange" if module == "hello_strange" else "own"])
        changed = data.replace(b"535.309", b"535.999") if module == "hello_changed" else data
        data = elf.with_signature(changed, signature)
    found = signing.refusal(data, [pairs["own"].certificate])
    assert [found] * bool(found) == refusal
    assert (found is None) is (insmod("enrolled", module)[0] == 0)


def pair(folder: Path, name: str) -> signing.Pair:
    """A key with its certificate."""
    made = signing.Pair(folder / f"{name}.key", folder / f"{name}.pem")
    argv = ["openssl", "req", "-new", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", f"/CN={name}"]
    subprocess.run([*argv, "-keyout", made.key, "-out", made.certificate], check=True, capture_output=True)
    return made
