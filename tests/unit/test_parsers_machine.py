"""Parsers of the machine's own files: cases that go wrong in real life, and any text at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gpuhost.errors import UnreadableError
from gpuhost.host.parse import machine as parsers

from ..recorded import said


@pytest.mark.parametrize(
    ("text", "platform", "codename"),
    [
        ('ID=ubuntu\nVERSION_ID="18.04"\nVERSION_CODENAME=bionic\n', "ubuntu-18.04", "bionic"),
        ("ID=debian\nVERSION_ID='12'\nVERSION=\"12 (bookworm)\"\n", "debian-12", "bookworm"),
        ('ID=ubuntu\nVERSION_ID=18.04\nVERSION="18.04.6 LTS (Bionic Beaver)"\n', "ubuntu-18.04", "bionic"),
        ('# a comment\n\nID=debian\nPRETTY_NAME="Debian GNU/Linux trixie/sid"\n', "debian", ""),
        ('ID="debian\nVERSION_ID=12\n', "debian-12", ""),
    ],
)
def test_os_release(text: str, platform: str, codename: str) -> None:
    """Quotes of either kind or none, no codename line, no version, and a quote that does not close."""
    parsed = parsers.parse_os_release(text)
    assert (parsed["id"], parsed["codename"]) == (platform, codename)


@pytest.mark.parametrize("text", ["", "ID=\n", "NAME=Ubuntu\n", "<html>", "id=ubuntu\n"])
def test_os_release_without_an_id_is_an_error(text: str) -> None:
    """A platform is never guessed from a name."""
    with pytest.raises(UnreadableError):
        parsers.parse_os_release(text)


def test_cpuinfo_of_another_architecture_has_no_avx() -> None:
    """ARM writes Features instead of flags and no model name."""
    arm = "processor\t: 0\nFeatures\t: fp asimd\n\nprocessor\t: 1\n"
    assert parsers.parse_cpuinfo(arm) == {"count": 2, "model": "", "avx": False}
    assert parsers.parse_cpuinfo("processor : 0\nflags : sse avx2\n")["avx"] is False


@pytest.mark.parametrize(
    ("line", "space"),
    [
        ("/dev/sda1 2048000 1024000 1024000 50% /", {"free_mib": 1000, "total_mib": 2000}),
        ("server:/my share 2048000 1024000 1024000 50% /a b", {"free_mib": 1000, "total_mib": 2000}),
        ("/dev/sda1 2048000 2048000 -1024 101% /", {"free_mib": 0, "total_mib": 2000}),
        ("overlay 2048000 1024000 1024000 - /", {"free_mib": 1000, "total_mib": 2000}),
        ("df: /: Permission denied", None),
    ],
)
def test_df(line: str, space: dict[str, int] | None) -> None:
    """Device names with blanks, an overfull file system, no percentage, and no figures at all."""
    assert parsers.parse_df("Filesystem 1024-blocks Used Available Capacity Mounted on\n" + line + "\n") == space


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (said("enrolled", "mokutil", "--sb-state")[1], "enabled"),
        (said("setup-mode", "mokutil", "--sb-state")[1], "disabled"),
        (said("validation-off", "mokutil", "--sb-state")[1], "not-enforced"),
        ("SecureBoot disabled\n", "disabled"),
        ("Cannot determine secure boot state.\n", None),
        ("EFI variables are not supported on this system\n", None),
        ("This system doesn't support Secure Boot\n", "unsupported"),
        ("Failed to read SecureBoot\n", None),
    ],
)
def test_mokutil(text: str, state: str | None) -> None:
    """Every sentence it has for the state, and the one that says it does not know."""
    assert parsers.parse_mokutil(text) == state


@pytest.mark.parametrize(
    ("data", "state"),
    [
        (b"\6\0\0\0\1", True),
        (b"\6\0\0\0\0", False),
        (b"\6\0\0\0\2", None),
        (b"\1", None),
        (b"", None),
        (b"\6\0\0\0\1\1", None),
    ],
)
def test_a_flag_of_the_firmware(data: bytes, state: bool | None) -> None:
    """Exactly four attribute bytes and a 0 or 1; anything else is not understood."""
    assert parsers.parse_efi_flag(data) is state


@pytest.mark.parametrize(
    ("flags", "state"),
    [
        ((True, False, False), "enabled"),
        ((True, None, None), "enabled"),
        ((True, False, True), "not-enforced"),
        ((True, True, False), "disabled"),
        ((False, False, False), "disabled"),
        ((None, True, True), None),
    ],
)
def test_secure_boot_as_the_kernel_takes_it(flags: tuple[bool | None, ...], state: str | None) -> None:
    """Setup Mode and shim's switch take the firmware's word back; without it nothing is known."""
    assert parsers.enforced(*flags) == state


@pytest.mark.parametrize(
    ("text", "state"), [("none [integrity] confidentiality\n", True), ("[none] integrity\n", False), ("", None)]
)
def test_lockdown(text: str, state: bool | None) -> None:
    """The brackets mark what is in force."""
    assert parsers.parse_lockdown(text) is state


def test_packages_are_keyed_as_dpkg_names_them() -> None:
    """A driver has libraries of two architectures at once, which must not overwrite each other."""
    lines = (
        "libnvidia-compute-525\tamd64\t1\thold\tinstalled\n"
        "libnvidia-compute-525\ti386\t2\tinstall\thalf-configured\n"
        "nvidia-common\tall\t3\tinstall\tinstalled\n"
        "nvidia-smi\t\t\tunknown\tnot-installed\n"
        "zlib1g\tamd64\t4\tinstall\tinstalled\n"
        "a line of something else\n"
    )
    packages, unread = parsers.parse_dpkg_packages(lines, "amd64")
    assert packages == {
        "libnvidia-compute-525": {"version": "1", "state": "installed", "hold": True},
        "libnvidia-compute-525:i386": {"version": "2", "state": "half-configured", "hold": False},
        "nvidia-common": {"version": "3", "state": "installed", "hold": False},
    }
    assert unread == ["a line of something else"]


@pytest.mark.parametrize(
    ("name", "stack", "observed"),
    [
        ("nvidia-driver-525", True, True),
        ("libcudnn8", True, True),
        ("linux-image-5.4.0-150-generic", True, True),
        ("linux-signatures-nvidia-5.4.0-150-generic", True, True),
        ("libegl-nvidia0", False, True),
        ("linux-modules-5.4.0-150-generic", False, True),
        ("python3.8-venv", False, True),
        ("gcc", False, True),
        ("gcc-7", False, False),
        ("barracuda", False, False),
        ("code", False, False),
        ("python-apt", False, False),
    ],
)
def test_which_packages_are_of_the_stack_and_which_are_observed(name: str, stack: bool, observed: bool) -> None:
    """A wrong name here makes an editor's repository look dangerous, or NVIDIA's look harmless."""
    assert bool(parsers.STACK_PACKAGE.search(name)) is stack
    assert parsers.is_observed_package(name) is observed


@given(st.text())
def test_any_text_gives_a_value(text: str) -> None:
    """A truncated or foreign file is not a traceback."""
    cpu = parsers.parse_cpuinfo(text)
    assert cpu["count"] >= 0
    memory = parsers.parse_meminfo(text)
    assert memory is None or memory >= 0
    space = parsers.parse_df(text)
    assert space is None or min(space.values()) >= 0
    assert parsers.parse_mokutil(text) in ("enabled", "disabled", "not-enforced", "unsupported", None)
    assert parsers.parse_lockdown(text) in (True, False, None)
    parsers.parse_python_version(text)
    assert all(line.strip() == line != "" for line in parsers.parse_audit(text))
    packages, unread = parsers.parse_dpkg_packages(text, "amd64")
    assert len(packages) + len(unread) <= len(text.splitlines())


@given(
    st.text()
    | st.lists(st.sampled_from(["ID=", "VERSION=(", "VERSION_ID", "'", '"', "\\", "=", "\n", "a", "("])).map("".join)
)
def test_any_os_release_gives_a_platform_or_the_named_error(text: str) -> None:
    """Half a quote, half a bracket: an id or UnreadableError, nothing else."""
    try:
        assert parsers.parse_os_release(text)["id"]
    except UnreadableError as error:
        assert error.next_step


@given(st.binary())
def test_any_variable_gives_a_state_or_none(data: bytes) -> None:
    """Firmware writes what it likes."""
    assert parsers.parse_efi_flag(data) in (True, False, None)


@given(st.binary())
def test_any_python_answer_is_a_version_or_none(data: bytes) -> None:
    """`python3 --version` may be another program altogether."""
    version = parsers.parse_python_version(data.decode("utf-8", "replace"))
    assert version is None or version[0].isdigit()
