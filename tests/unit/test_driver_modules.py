"""Is the module ready for the kernel that will boot: each defect is one need, with its diagnosis."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Dict, Sequence, Tuple

import pytest

from gpuhost.host.driver import key as module_key
from gpuhost.host.driver.judge import boot_needed, told, unready
from gpuhost.host.driver.modules import key_subject, owns_key

KERNEL = "5.4.0-150-generic"
SIGNED: Dict[str, Any] = {
    "version": "525.105.17",
    "kernel_modules": "proprietary",
    "modules_from": "signed",
    "modules_package": "linux-modules-nvidia-525",
}
BUILT: Dict[str, Any] = dict(SIGNED, modules_from="dkms")
READY: Dict[str, Any] = {
    "kernel": KERNEL,
    "module": {
        "path": "/m",
        "version": "525.105.17",
        "signed": True,
        "signer": "Canonical Ltd. Kernel Module Signing",
        "open": False,
    },
    "library": "525.105.17",
    "headers": True,
    "nouveau": {"blacklisted": True, "in_initramfs": False, "loaded": True},
    "dkms": [],
    "key": {"made": False, "enrolled": None},
    "record": None,
}


def changed(**parts: Any) -> Dict[str, Any]:
    """The ready host with another value at "part" or "part__key"."""
    state = copy.deepcopy(READY)
    for name, value in parts.items():
        part, _, key = name.partition("__")
        if key:
            state[part][key] = value
        else:
            state[part] = value
    return state


def test_a_ready_host_needs_nothing() -> None:
    """Signed by Canonical, Secure Boot on; that nouveau is loaded now ends with the reboot."""
    assert unready(READY, SIGNED, "enabled") == []
    assert (
        unready(changed(module__signed=False, module__signer="", nouveau__in_initramfs=None), SIGNED, "disabled") == []
    )


@pytest.mark.parametrize(
    ("state", "driver", "diagnosis", "remedy"),
    [
        (changed(module=None), SIGNED, "D08", f"apt-get install linux-modules-nvidia-525-{KERNEL}"),
        (changed(module=None, headers=False), BUILT, "D08", f"apt-get install linux-headers-{KERNEL}"),
        (changed(module=None), BUILT, "D08", f"dkms autoinstall -k {KERNEL}"),
        (changed(module__version="525.125.06"), SIGNED, "D08", "depmod"),
        (changed(module__open=True), SIGNED, "D13", "again"),
        (changed(module__signed=False, module__signer=""), SIGNED, "D11", "--reinstall"),
        (changed(module__signer="host gpuhost module signing"), SIGNED, "D11", "--reinstall"),
        (changed(module__signer="DKMS module signing key"), BUILT, "D11", "again"),
        (changed(library="525.125.06", module__signer="own"), BUILT, "D01", "again"),
        (changed(nouveau__blacklisted=False), SIGNED, "D10", "again"),
        (changed(nouveau__in_initramfs=True), SIGNED, "D10", f"update-initramfs -u -k {KERNEL}"),
    ],
)
def test_one_defect_is_one_need(state: Dict[str, Any], driver: Dict[str, Any], diagnosis: str, remedy: str) -> None:
    """The right diagnosis and what to type; one cause gives one need."""
    needs = unready(state, driver, "enabled", "own")
    assert [need.diagnosis for need in needs] == [diagnosis]
    assert remedy in needs[0].remedy
    assert diagnosis in told(needs) and remedy in told(needs)


def test_an_own_key_that_is_not_known_signs_nothing() -> None:
    """Without a certificate, no signer is the right one, not even nobody."""
    assert [n.diagnosis for n in unready(changed(module__signed=False, module__signer=""), BUILT, "enabled", "")] == [
        "D11"
    ]


def test_who_needs_a_key() -> None:
    """Only what is built here, and only under Secure Boot."""
    assert owns_key(BUILT, "enabled")
    assert not owns_key(BUILT, "disabled") and not owns_key(BUILT, "unknown") and not owns_key(SIGNED, "enabled")


def test_the_subject_fits_into_a_certificate() -> None:
    """A common name has at most 64 characters, and a host's name may have more."""
    assert key_subject("gpu-1") == "gpu-1 gpuhost module signing"
    assert len(key_subject("x" * 200)) <= 64
    assert key_subject("").startswith("host ")


def test_the_common_name_is_read_whole() -> None:
    """modinfo prints it as the signer, with its blanks."""
    text = "subject=\n    organizationName          = O\n    commonName                = a b, c\n"
    assert module_key.common_name(text) == "a b, c"
    assert module_key.common_name("unable to load certificate") == ""


@pytest.mark.parametrize(
    ("loaded", "nouveau", "running", "words"),
    [
        ("525.105.17", False, "K", ""),
        ("525.105.17", True, "K", "nouveau is loaded"),
        (None, False, "K", "no NVIDIA module is loaded"),
        ("470.1", False, "K", "module 470.1 is loaded, the locked one is 525.105.17"),
        ("525.105.17", False, "J", "kernel J runs, the driver was made for K"),
        ("525.105.17", False, "", "an unknown kernel runs, the driver was made for K"),
    ],
)
def test_when_a_reboot_is_needed(loaded: str, nouveau: bool, running: str, words: str) -> None:
    """Not when the locked module is the loaded one, and the kernel that it was made for is the one that runs."""
    assert boot_needed(loaded, nouveau, SIGNED, running, "K") == words


def test_modules_of_another_signer_are_signed_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """dkms may have used a key of its own, which the firmware does not know."""
    folder = tmp_path / "lib/modules/K/updates/dkms"
    folder.mkdir(parents=True)
    for name in ("nvidia.ko", "nvidia-uvm.ko", "virtualbox.ko"):
        (folder / name).write_bytes(b"")

    def run(argv: Sequence[str], timeout: float) -> Tuple[int, str, str]:
        return 0, "own\n" if argv[-1].endswith("nvidia.ko") else "DKMS module signing key\n", ""

    real = Path
    monkeypatch.setattr(module_key, "Path", lambda *parts: real(str(tmp_path) + real(*parts).as_posix()))
    assert [path.name for path in module_key.unsigned("K", "own", run)] == ["nvidia-uvm.ko"]
