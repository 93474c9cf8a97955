"""Every reader of text or bytes that a host says: any input gives a value, in bounded time and size."""

from __future__ import annotations

import json
from typing import Any, Callable, Dict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.host.parse import apt, boot, kernels, machine, nvidia, signature
from gpuhost.host.probe import driver, signs

#: Words that readers look for, so that what is made from them comes past the first line of each.
WORDS = [
    *("menuentry 'a' {", "submenu", "}", "{", "\tlinux /boot/vmlinuz-5.4.0-150-generic", 'set default="1>2"', "--id"),
    *("deb", "deb-src", "[arch=amd64", "]", "http://u:p@a/", "file:///", "$(ARCH)", "cdrom:[x y]/", "bionic", "main"),
    *("Types:", "URIs:", "Suites:", "Enabled:", "filename:", "signat:", "signer:", "vermagic:", "license: GPL"),
    *("00000000:01:00.0", "GPU-0", "WARNING:", "Unable to determine the device handle for GPU0000:07:00.0: Lost"),
    *("NVRM:", "Xid", "[    5.4] ", "SecureBoot enabled", "in Setup Mode", "[none]", "release o=Debian,n=x", " 500 "),
    *(
        "saved_entry=",
        "default",
        "GRUB_DEFAULT=",
        "\x1b[31m",
        "\x00",
        "\ud800",
        "\u202e",
        ",",
        "|",
        "\t",
        " ",
        "\n",
        "'",
    ),
]
TEXT = st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=60).map("".join)
READERS: Dict[str, Callable[[str], Any]] = {
    "one-line": lambda text: apt.parse_one_line(text, "f"),
    "deb822": lambda text: apt.parse_deb822(text, "f"),
    "list_file_stem": lambda text: apt.list_file_stem(text, text, "amd64"),
    "place_of": lambda text: apt.place_of(text, "amd64"),
    "index targets": apt.parse_index_targets,
    "policy": apt.parse_policy,
    "madison": apt.parse_madison,
    "own origin": lambda text: apt.is_own_origin(text, "ubuntu"),
    "grub menu": lambda text: boot.choose(boot.parse_grub_menu(text), text),
    "grub default": boot.parse_grub_default,
    "assignments": boot.parse_assignments,
    "named kernel": lambda text: boot.named_kernel(text, ["5.4.0-150-generic", text[:200]]),
    "loader": boot.parse_loader,
    "matching": lambda text: boot.matching(["a.conf", text[:200]], text),
    "kernel package": lambda text: (kernels.is_kernel_package(text), kernels.headers_package(text + "-pve")),
    "kernel": lambda text: [kernels.of_the_archive(text, name) for name in ("ubuntu", "debian", text)],
    "mokutil": machine.parse_mokutil,
    "lockdown": machine.parse_lockdown,
    "df": machine.parse_df,
    "cpuinfo": machine.parse_cpuinfo,
    "dpkg": lambda text: machine.parse_dpkg_packages(text, "amd64"),
    "nvidia-smi": lambda text: nvidia.sort_out(nvidia.parse_smi_csv(text, nvidia.SMI_FIELDS)[1]),
    "module version": nvidia.parse_module_version,
    "modinfo": driver.parse_modinfo,
    "test-key": driver.parse_test_key,
    "kernel log": signs.telling_lines,
    "MIG instances": signs.count_instances,
    "free memory": signs.parse_free_memory,
}
BYTES: Dict[str, Callable[[bytes], Any]] = {
    "signature": lambda data: signature.at_the_end(data + signature.MAGIC),
    "signed message": lambda data: signature.signer_in(data),
    "signature of that length": lambda data: signature.at_the_end(
        data + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + len(data).to_bytes(4, "big") + signature.MAGIC
    ),
    "firmware's flag": machine.parse_efi_flag,
    "loader's variable": boot.parse_loader_variable,
}
#: DER elements that nest, so that a walk gets past the first.
DER = st.recursive(
    st.binary(max_size=12),
    lambda inner: st.tuples(st.sampled_from([0x30, 0x31, 0xA0, 0x06, 0x02, 0x0C]), st.lists(inner, max_size=4)).map(
        lambda pair: bytes([pair[0]]) + bytes([min(len(b"".join(pair[1])), 255)]) + b"".join(pair[1])
    ),
    max_leaves=20,
)
FUZZ = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)


def size(value: Any) -> int:
    """How much a value takes when it is told."""
    return len(json.dumps(value, default=str))


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(text=TEXT)
def test_any_text_is_read(name: str, text: str) -> None:
    """No traceback, and no more comes out than went in, with what each row is called."""
    assert size(READERS[name](text)) <= 40 * len(text) * 6 + 4000


@pytest.mark.parametrize("name", BYTES)
@FUZZ
@given(data=st.binary(max_size=200) | DER)
def test_any_bytes_are_read(name: str, data: bytes) -> None:
    """A module, or the firmware's variable, of whoever wrote it."""
    assert size(BYTES[name](data)) <= 4000


def test_long_and_deep_input_takes_no_long_time() -> None:
    """What grows with the square of its input would not end here."""
    many = 20000
    for text in (
        "menuentry 'a' {\n" * many,
        "submenu 'a' {\n" * 2000 + "}\n" * 2000,
        "deb " + "[" * many,
        "deb http://a/ " + "a" * many,
        "a=" * many,
        ">" * many,
        "Unable to determine the device handle for GPU" + "0" * many,
        " " * many + "x",
        "[" * many,
    ):
        for read in READERS.values():
            read(text)
    signature.at_the_end(b"\x30\x80" * many + signature.MAGIC)
