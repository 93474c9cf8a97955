"""The probe on broken machines: what cannot be read is named; what makes a plan impossible is an error."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Callable, Dict, Sequence, Tuple

import pytest

from gpuhost.errors import UnreadableError
from gpuhost.host.probe.machine import observe

from ..example_hosts import answers_of, folder_of
from ..recorded import said

HOST = folder_of("ubuntu1804-quadro-p2000")
CARD = "sys/bus/pci/devices/0000:01:00.0"
Answer = Tuple[int, str, str]
Change = Callable[[Path], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of a healthy host's files, to break."""
    return Path(shutil.copytree(HOST / "fs", tmp_path / "fs", symlinks=True))


def replay(changed: Dict[str, Answer]) -> Callable[[Sequence[str], float], Answer]:
    """The healthy host's commands, except those whose first word (or words) `changed` names."""
    answers = answers_of(HOST)

    def run(argv: Sequence[str], timeout: float) -> Answer:
        for start, answer in changed.items():
            if " ".join(argv).startswith(start):
                return answer
        return answers[tuple(argv)]

    return run


def test_without_os_release_there_is_no_platform(root: Path) -> None:
    """Nothing can be planned then; the error says what restores the file."""
    (root / "etc/os-release").unlink()
    with pytest.raises(UnreadableError, match="os-release") as caught:
        observe(str(root), replay({}))
    assert "base-files" in caught.value.next_step


def test_os_release_is_found_in_its_second_place(root: Path) -> None:
    """os-release(5) names two places."""
    (root / "usr/lib").mkdir(parents=True)
    (root / "etc/os-release").rename(root / "usr/lib/os-release")
    assert observe(str(root), replay({}))["platform"]["id"] == "ubuntu-18.04"


def test_without_pci_devices_the_cards_are_unknown(root: Path) -> None:
    """No sysfs is not the same as no card."""
    shutil.rmtree(root / "sys/bus/pci/devices")
    with pytest.raises(UnreadableError, match="PCI devices"):
        observe(str(root), replay({}))


@pytest.mark.parametrize("content", [None, "", "0x\n", "1c30\n", "0x1c3g\n"])
def test_a_card_without_an_id_is_an_error(root: Path, content: str | None) -> None:
    """A card that is there but cannot be read is never left out and never guessed."""
    if content is None:
        (root / CARD / "device").unlink()
    else:
        (root / CARD / "device").write_text(content, encoding="utf-8")
    with pytest.raises(UnreadableError, match=r"0000:01:00\.0"):
        observe(str(root), replay({}))


def test_a_device_without_a_class_is_named(root: Path) -> None:
    """It may be a card, so it is not passed over in silence."""
    (root / "sys/bus/pci/devices/0000:00:00.0/class").unlink()
    problems = observe(str(root), replay({}))["problems"]
    assert [problem["what"] for problem in problems] == ["/sys/bus/pci/devices/0000:00:00.0"]


def test_a_card_that_nvidia_smi_does_not_list_is_unreadable(root: Path) -> None:
    """sysfs shows two cards and nvidia-smi one: the second has fallen off the bus."""
    shutil.copytree(root / CARD, root / "sys/bus/pci/devices/0000:65:00.0", symlinks=True)
    cards = observe(str(root), replay({}))["gpus"]
    assert [card["readable"] for card in cards] == [True, False]
    assert "does not list" in cards[1]["error"]


def test_a_card_that_only_nvidia_smi_lists_is_an_error(root: Path) -> None:
    """The two disagree, so neither is believed."""
    row = "00000000:65:00.0, GPU-1, NVIDIA X, 100, 8.6\n"
    smi = observe(str(root), replay({"nvidia-smi": (0, row, "")}))["nvidia"]["smi"]
    assert smi["status"] == "error"
    assert "0000:65:00.0" in smi["message"]


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            (
                18,
                "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 535.161\n",
                "",
            ),
            "version mismatch",
        ),
        ((6, "No devices were found\n", ""), "No devices were found"),
        ((124, "", "nvidia-smi gave no answer within 90 s"), "no answer"),
        ((255, "", ""), "status 255"),
        ((0, "No devices were found\n", ""), "No devices were found"),
        ((0, "", ""), "does not list"),
    ],
)
def test_when_nvidia_smi_fails_the_card_carries_its_words(root: Path, answer: Answer, words: str) -> None:
    """The user searches for this sentence, so it is kept."""
    observation = observe(str(root), replay({"nvidia-smi": answer}))
    assert observation["gpus"][0]["readable"] is False
    assert words in observation["gpus"][0]["error"]
    assert observation["gpus"][0]["pci_id"] == "10de:1c30"


def test_a_broken_card_that_is_listed_is_unreadable(root: Path) -> None:
    """nvidia-smi prints an error in place of values and still ends with status 0."""
    row = "00000000:01:00.0, [Unknown Error], [GPU requires reset], [Unknown Error], [Unknown Error]\n"
    card = observe(str(root), replay({"nvidia-smi": (0, row, "")}))["gpus"][0]
    assert card["readable"] is False
    assert "[Unknown Error]" in card["error"]
    assert card["name"] is None


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda folder: (folder / "x").write_bytes(b""), "enabled"),
        (lambda folder: (folder / "SecureBoot-1").write_bytes(bytes([6, 0, 0, 0])), "enabled"),
        (lambda folder: (folder / "SecureBoot-1").write_bytes(bytes([6, 0, 0, 0, 0])), "disabled"),
        (lambda folder: (folder / "SecureBoot-1").write_bytes(bytes([6, 0, 0, 0, 1])), "enabled"),
    ],
)
def test_mokutil_answers_where_the_variable_does_not(root: Path, change: Change, state: str) -> None:
    """The firmware's variable decides; mokutil is asked only when it is absent or has another length."""
    folder = root / "sys/firmware/efi/efivars"
    shutil.rmtree(folder)
    folder.mkdir()
    change(folder)
    assert observe(str(root), replay({"mokutil": said("enrolled", "mokutil", "--sb-state")}))["secure_boot"] == state


@pytest.mark.parametrize("answer", [(127, "", "mokutil is not installed"), (255, "", "Failed to read SecureBoot\n")])
def test_secure_boot_is_unknown_rather_than_guessed(root: Path, answer: Answer) -> None:
    """With UEFI firmware and no readable state, "disabled" would be a guess that breaks the driver."""
    shutil.rmtree(root / "sys/firmware/efi/efivars")
    assert observe(str(root), replay({"mokutil": answer}))["secure_boot"] == "unknown"


@pytest.mark.parametrize("command", ["uname", "dpkg-query", "dpkg --audit", "apt-cache", "df", "/usr/bin/python3.6"])
def test_a_failing_command_is_a_named_problem(root: Path, command: str) -> None:
    """One broken tool does not hide what the others say."""
    observation = observe(str(root), replay({command: (1, "", "it broke")}))
    assert any(command in problem["what"] and "it broke" in problem["error"] for problem in observation["problems"])
    assert observation["gpus"][0]["name"] == "Quadro P2000"


def test_a_source_list_that_is_a_folder_or_odd_bytes_is_no_traceback(root: Path) -> None:
    """Bytes that are no UTF-8 are shown as such in the problem; a folder in a list's place is not read."""
    (root / "etc/apt/sources.list.d/odd.list").parent.mkdir(exist_ok=True)
    (root / "etc/apt/sources.list.d/odd.list").write_bytes(b"deb \xff\xfe\n")
    (root / "etc/apt/sources.list.d/folder.list").mkdir()
    problems = observe(str(root), replay({}))["apt"]["problems"]
    assert [(problem["file"], problem["line"]) for problem in problems] == [("/etc/apt/sources.list.d/odd.list", 1)]


def test_a_foreign_source_that_was_never_fetched_says_so(root: Path) -> None:
    """apt knows nothing of it yet, so the absence of foreign packages proves nothing."""
    (root / "etc/apt/sources.list.d").mkdir()
    (root / "etc/apt/sources.list.d/new.list").write_text("deb http://new.example/apt stable main\n", encoding="utf-8")
    sources = observe(str(root), replay({}))["apt"]["sources"]
    assert [source["fetched"] for source in sources] == [True, True, True, False]


def test_the_root_file_system_answers_for_a_missing_opt(root: Path) -> None:
    """A minimal host has no /opt; the store will be made on /."""
    shutil.rmtree(root / "opt")
    disk = observe(str(root), replay({"df -P -k /opt": (1, "", "No such file or directory")}))["disk"]
    assert disk["/opt"] == disk["/"]


def test_memory_that_cannot_be_read_is_null_and_named(root: Path) -> None:
    """Zero would look like a measured value."""
    (root / "proc/meminfo").unlink()
    observation = observe(str(root), replay({}))
    assert observation["memory_mib"] is None
    assert [problem["what"] for problem in observation["problems"]] == ["/proc/meminfo"]
