"""Every remedy that can be printed does no harm: one law over all of them, and the removals are carried out."""

from __future__ import annotations

import copy
import functools
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gpuhost.checks import sources
from gpuhost.checks.base import LONGEST, NOT_PLAIN, TOO_LONG, on_host, told_lines, whole_command
from gpuhost.diagnoses import by_hand, compute
from gpuhost.host.driver import judge
from gpuhost.host.driver.offer import ADDED
from gpuhost.host.parse.apt import parse_deb822, parse_one_line
from gpuhost.planning import preflight

from ..example_hosts import NAMES, observed
from .collected import judged
from .faults import FILES, fresh, made, read
from .lockless import FAULTS as LOCKLESS
from .lockless import changed, examined, healthy, without_lock

Json = Dict[str, Any]
FAULTS = {file.stem: read(file) for file in FILES}
FAMILIES = ("ubuntu", "debian", "fedora", "arch", "opensuse")
ON_HOST = "On the host: "

# The law

#: The programs that a remedy may start. A new one is looked at first.
PROGRAMS = re.findall(
    r"\S+",
    "akmods apt-get apt-cache apt-mark bootctl chmod chown curl depmod dkms dmesg dnf docker dpkg dracut echo export "
    "grep grubby grub-editenv grub-mkconfig grub2-editenv grub2-mkconfig kmodgenca ls nvidia-ctk paste prime-select "
    "systemctl tr update-grub usermod "
    "ldconfig mkinitcpio modprobe mokutil nvidia-modprobe nvidia-smi pacman perl printf reboot rm sed tail "
    "test ubuntu-drivers unset update-initramfs update-secureboot-policy zypper ${EDITOR:-nano} "
    # Oracle's own uninstaller, by its whole path: it takes away VirtualBox's program and modules, and leaves machines.
    "/opt/VirtualBox/uninstall.sh ",
)
#: Where a word like --force overrides no protection: it makes again what can be made again, under its own name.
FORCES = {"dracut": "--force", "akmods": "--force", "dkms": "--force", "python": "--force-reinstall"}
OWN_FILE = re.compile(r"/etc/apt/sources\.list(\.d/(debian|ubuntu)[^/]*)?")
SAFE_MODES = r"[67]00|o-w|u=rwX,go=rX"
GLOBS = ("/etc/ld.so.conf.d/*.conf",)


def words_of(command: str) -> Iterator[Tuple[str, List[str], List[str]]]:
    """The simple commands of a line: what stands before each, its words as written, and as the shell has them."""
    raw = shlex.shlex(command, posix=False, punctuation_chars=True)
    plain = shlex.shlex(command, posix=True, punctuation_chars=True)
    raw.whitespace_split = plain.whitespace_split = True
    before, written, meant = "", [], []
    tokens, values = list(raw), list(plain)
    if len(tokens) != len(values):  # a word of several quoted parts
        tokens = values
    for token, value in zip(tokens, values):
        if re.fullmatch(r"[;&|()]+|[{}]", token):
            if meant:
                yield before, written, meant
            before, written, meant = token, [], []
        else:
            written.append(token)
            meant.append(value)
    if meant:
        yield before, written, meant


def harm_of(before: str, written: List[str], meant: List[str]) -> Iterator[str]:
    """What a simple command could do that no remedy may."""
    program = meant[0]
    options = [word for word in meant[1:] if word.startswith("-")]
    operands = [word for word in meant[1:] if not word.startswith("-")]
    is_python = meant[1:3] == ["-m", "pip"]
    if program not in PROGRAMS and not is_python:
        yield f"starts {program}"
    if before == ";":
        yield "goes on after a failure"
    for word in meant[1:]:
        forced = re.match(r"-+(no-)?(force|allow|yes|assume-yes|trusted|noconfirm|non-interactive|nogpg)|-y$", word)
        if forced and FORCES.get("python" if is_python else program) != word:
            yield f"forces: {word}"
    if "" in operands and meant[:2] not in (["bootctl", "set-default"], ["bootctl", "set-oneshot"]):
        yield "has an empty word"
    if program == "rm":
        if options or not operands:
            yield "rm without names, or with options"
        for word, raw in zip(meant[1:], written[1:]):
            if not word.startswith("/") or (not raw.startswith("'") and re.search(r"[*?\[]", raw)):
                yield f"rm {raw} names nothing"
            if OWN_FILE.fullmatch(word):
                yield f"removes the distribution's own {word}"
    if program in ("apt-get", "dnf", "zypper", "pacman", "dpkg") and {
        "purge",
        "remove",
        "autoremove",
        "erase",
        "-R",
        "-r",
        "-P",
        "--purge",
        "--remove",
    } & {*meant}:
        names = operands[1:]
        if not names or any(not re.fullmatch(r"[a-z0-9][a-z0-9.+-]+[a-z0-9]", name) for name in names):
            yield "removes packages that it does not name"
    if program == "apt-get" and "-f" in options and operands != ["install"]:
        yield "apt-get -f beside names"
    if program == "sed" and "-i" in options:
        script, *files = operands
        if not re.search(r"\^.*[\w/]{7}", script) or not files:
            yield "sed without a pattern or a file"
        if any(re.search(r"[*?]", file) and file not in GLOBS for file in files) or "--follow-symlinks" not in options:
            yield "sed on what is not named"
    if program == "perl" and ("URIs" not in meant[4] or "Suites" not in meant[4] or len(meant) != 6):
        yield "perl without URIs, suites or file"
    # The driver's own mode for its nodes, which let a user ask the card and nothing else.
    is_node = operands[:1] == ["0666"] and all(re.fullmatch(r"/dev/nvidia[\w-]*", word) for word in operands[1:])
    if program == "chmod" and not re.fullmatch(SAFE_MODES, operands[0]) and not is_node:
        yield "opens files to others"
    recursive = program in ("chmod", "chown") and any(re.match(r"-\w*R", option) for option in options)
    if recursive and any(re.fullmatch(r"/|/(usr|etc|opt|var|home)/*", word) for word in operands):
        yield "changes a whole system folder"
    if program == "mokutil" and not {"--import", "--sb-state"} & {*options}:
        yield "mokutil for something else than a key"
    if program in ("sh", "bash", "eval", "sudo"):
        yield "runs a shell"
    if program == "curl" and not any(word.startswith("https://developer.download.nvidia.") for word in operands):
        yield "fetches from elsewhere"
    for at, word in enumerate(meant):
        if word.startswith(">") and not meant[at + 1].startswith(("/etc/modprobe.d/", "/etc/rpm/macros.nvidia", ADDED)):
            yield f"writes {meant[at + 1]}"


NO_SHELL = ["no shell reads it"]


def harms(command: str) -> List[str]:
    """What of the law a remedy breaks."""
    found = []
    done = subprocess.run(["bash", "-n", "-c", command], stderr=subprocess.PIPE, check=False)
    if done.returncode or "\n" in command:
        return NO_SHELL
    if re.search(r"\|\s*(sudo )?(ba|da)?sh\b|disable-validation|sb=0|sig_enforce=0", command):
        found.append("runs what it fetches, or switches Secure Boot off")
    for simple in words_of(command):
        found += harm_of(*simple)
    return found


def commands(remedy: str) -> List[str]:
    """The shell's part of a remedy: for the host, and for the project's folder."""
    if remedy.startswith(ON_HOST):
        command, _, here = remedy[len(ON_HOST) :].partition("\nThen here: ")
        return [command, *commands(here)]
    start = remedy.find("./run ")
    return [] if start < 0 else [remedy[start:].partition(". ")[0].partition("  #")[0]]


# What can be printed


def of_verify() -> Iterator[str]:
    """The remedies of all checks and signs, on hosts with a lock."""
    for fault in FAULTS.values():
        yield from (found.remediation for found in judged(made(fault)).values())


def without_locks() -> Iterator[Json]:
    """All described faults as the doctor collects them."""
    yield from (changed(fault) for fault in LOCKLESS.values())
    for fault in FAULTS.values():
        seen = made(fault)
        if "error" not in seen["machine"] and seen["machine"]["observation"]["nvidia"]:
            yield without_lock(seen)


@functools.lru_cache(maxsize=None)
def of_doctor() -> Tuple[str, ...]:
    """The same on hosts without one, of each family of distributions."""
    return tuple(remedies_without_locks())


def remedies_without_locks() -> Iterator[str]:
    """Have the doctor look at each."""
    for original in without_locks():
        for name in FAMILIES:
            seen = copy.deepcopy(original)
            seen["surroundings"]["names"] = [name]
            seen["machine"]["observation"]["platform"]["distribution"] = name
            report = examined(seen)
            yield from (
                ON_HOST + row["remedy"] for row in report["findings"] + report["risks"] if "./run" not in row["remedy"]
            )


def of_preflight() -> Iterator[str]:
    """What preflight and the driver's role say."""
    for host in NAMES:
        for problem in preflight.problems(observed(host)):
            for command in re.findall(r"(?m)(?:[Rr]emove it|Let apt read it|Fix it|in its place):\n  (.*)$", problem):
                yield ON_HOST + command


def of_judge() -> Iterator[str]:
    """What the driver's role says of a driver that is not ready."""
    kernel = "5.4.0-150-generic"
    out = {"blacklisted": False, "in_initramfs": True, "loaded": False}
    base = {"kernel": kernel, "library": "1", "headers": True, "nouveau": out, "module": None}
    module = {"version": "1", "path": "/m", "open": False, "signer": "x", "signed": True}
    for source in ("signed", "dkms"):
        driver = {
            "version": "2",
            "kernel_modules": "open",
            "modules_from": source,
            "modules_package": "linux-modules-x",
        }
        for state in (base, {**base, "headers": False}, {**base, "module": module}):
            for need in judge.unready(state, {**driver, "secure_boot": "own-key"}, "enabled", "y"):
                if not need.remedy.startswith("run "):
                    yield ON_HOST + need.remedy


@pytest.mark.parametrize("of", [of_verify, of_doctor, of_preflight, of_judge])
def test_no_remedy_can_harm(of: Any) -> None:
    """Each is read by a shell, names what it removes, keeps the distribution's own, and overrides no protection."""
    told: Set[str] = {command for remedy in of() for command in commands(remedy) if remedy}
    assert len(told) > 3
    bad = {}
    for command in sorted(told - {""}):
        if command in (TOO_LONG, NOT_PLAIN):
            continue
        line = command.replace("./run ansible-playbook ", "true ") if command.startswith("./run") else command
        found = [harm for harm in harms(line) if not (line.startswith("true ") and harm == "starts true")]
        if "./run pytest" not in command and found:
            bad[command] = found
    assert bad == {}


def joined(command: str) -> bool:
    """Return whether a line goes on with another command whatever became of the one before."""
    tokens = list(shlex.shlex(command, posix=False, punctuation_chars=True))
    return any(
        ";" in token and (tokens[at + 1 :] or ["}"])[0] != "}" for at, token in enumerate(tokens) if token[0] in ";&|"
    )


@pytest.mark.parametrize("of", [of_verify, of_doctor, of_preflight, of_judge])
def test_each_command_stands_on_a_line_of_its_own(of: Any) -> None:
    """To be copied: no other command behind a semicolon, and no sentence; where it is typed stands above it."""
    bad = set()
    for remedy in of():
        lines = told_lines(remedy)
        for at, line in enumerate(lines):
            typed = line.startswith(("  ", "./run ")) and line.strip() not in (TOO_LONG, NOT_PLAIN)
            if typed and (
                joined(line) or re.search(r"[.]$|[.] [A-Z]", line.partition("#")[0]) or harms(line) == NO_SHELL
            ):
                bad.add(line)
            if not typed and ("./run " in line or (line.startswith("On the host") and at + 1 == len(lines))):
                bad.add(line)
    assert bad == set()


@pytest.mark.parametrize(
    "remedy", [on_host("rm '/etc/a\n./run x'", "./run y"), whole_command("On the host: rm 'a\nThen here: b'")]
)
def test_a_hosts_word_makes_no_second_line(remedy: str) -> None:
    """Half a command, and another one below it."""
    assert remedy == NOT_PLAIN


def test_a_remedy_in_two_places_is_shown_line_by_line() -> None:
    """The place, the command; the next place, its command."""
    remedy = whole_command(on_host("ldconfig", "./run ansible-playbook playbooks/cuda.yml"))
    assert told_lines(remedy) == [
        "On the host:",
        "  ldconfig",
        "Then here:",
        "  ./run ansible-playbook playbooks/cuda.yml",
    ]


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /etc/apt",
        "rm /etc/apt/sources.list.d/*",
        "rm /etc/apt/sources.list.d/ubuntu-esm-infra.list",
        "rm /etc/apt/sources.list.d/debian.sources && apt-get update",
        "rm ''",
        "apt-get purge",
        "apt-get purge 'nvidia*'",
        "apt-get purge -y nvidia-driver-525",
        "sed -i '/^/d' /etc/apt/sources.list",
        "sed -E -i --follow-symlinks '' /etc/apt/sources.list",
        "perl -00 -i -ne 'print' /etc/apt/x.sources",
        "dpkg --force-all -i x.deb",
        "apt-get install --allow-unauthenticated x",
        "mokutil --disable-validation",
        "chmod 777 /dev/nvidia0",
        "chmod 0666 /dev/dri/card0",
        "chmod a+rw /dev/nvidia0",
        "curl https://developer.download.nvidia.com/x | sh",
        "curl -O https://elsewhere.example/x",
        "apt-get update; or rm /etc/apt/x",
        "rm /etc/x 'unclosed",
    ],
)
def test_the_law_knows_harm(command: str) -> None:
    """Each of these would be found."""
    assert harms(command)


# Package managers that no bed has

#: What these programs' own documentation has of the words that remedies use: dnf(8), pacman(8), zypper(8), akmods(8),
#: dracut(8), mkinitcpio(8), grubby(8). A new word is looked up there first.
DOCUMENTED = {
    "dnf": {"install"},
    "pacman": {"-S", "-Syu", "-Qs", "--needed"},
    "zypper": {"install", "install-new-recommends", "search", "--installed-only"},
    "akmods": {"--force", "--kernels", "--rebuild"},
    "kmodgenca": {"-a"},
    "dracut": {"--force", "--regenerate-all"},
    "mkinitcpio": {"-P"},
}
#: The packages, by where they are documented.
PACKAGED = {
    "rpmfusion.org/Howto/NVIDIA": ("akmod-nvidia", "xorg-x11-drv-nvidia-cuda", r"kernel-devel-\S+"),
    "docs.nvidia.com, NVIDIA/yum-packaging-fabric-manager": (
        r"nvidia-fabric-manager-[\d.]+",
        r"cuda-drivers-fabricmanager-\d+",
    ),
    "archlinux.org, news of driver 590, and the wiki's NVIDIA": (
        "nvidia-open-dkms",
        "nvidia-utils",
        "nvidia",
        r"linux-((lts|zen)-)?headers",
    ),
    "en.opensuse.org/SDB:NVIDIA_drivers": (
        "openSUSE-repos-NVIDIA",
        "nvidia-(driver-G06|open-driver-G06-signed)-kmp-default",
        "nvidia-compute-G06",
        "kernel-default-devel",
    ),
}


def test_what_no_bed_tries_is_as_documented() -> None:
    """Every word and every package of the commands for Fedora, Arch and openSUSE."""
    packages = "|".join(name for names in PACKAGED.values() for name in names)
    started, strange = set(), set()
    for remedy in of_doctor():
        for command in commands(remedy):
            for _, _, (program, *words) in words_of(command):
                if program not in DOCUMENTED:
                    continue
                started.add(program)
                rest = [word for word in words if word not in DOCUMENTED[program]]
                of_kernel = program == "akmods" and len(rest) <= 1
                if not of_kernel and not all(re.fullmatch(packages, word) for word in rest):
                    strange.add(command)
    assert strange == set() and started == set(DOCUMENTED)


@pytest.mark.parametrize(
    ("kernel", "package"),
    [
        ("6.17.9-arch1-1", "linux-headers"),
        ("6.12.60-1-lts", "linux-lts-headers"),
        ("6.17.9-zen1-1-zen", "linux-zen-headers"),
    ],
)
def test_archs_headers_are_named_after_the_kernels_flavour(kernel: str, package: str) -> None:
    """Those of another flavour build nothing for it."""
    assert by_hand.arch_headers(kernel) == package


# Words of a host


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("On the host: reboot  # now", "On the host: reboot # now"),
        ("On the host: rm '/etc/a  b'", NOT_PLAIN),
        ("On the host: rm '/etc/a\nb'", NOT_PLAIN),
        ("On the host: rm '/etc/a\tb'", NOT_PLAIN),
        ("On the host: rm '/etc/a\x1bb'", NOT_PLAIN),
        ("x" * (LONGEST + 1), TOO_LONG),
    ],
)
def test_a_command_is_printed_as_it_is_or_not_at_all(text: str, printed: str) -> None:
    """Made printable, a name would be another one, which may be there as well."""
    assert whole_command(text) == printed


def test_a_cudnn_in_a_folder_of_the_systems_leaves_the_linkers_list_alone() -> None:
    """The line of the distribution's own folder would be taken out otherwise."""
    seen = fresh("gpu")
    path = "/usr/lib/x86_64-linux-gnu/libcudnn.so.8"
    seen["environments"]["dl4cv"]["libraries"] = {"libcudnn.so.8": {"error": None, "version": 8100, "path": path}}
    assert compute.without_other_cudnn(seen).startswith(f"On the host: dpkg -S {path}")


@pytest.mark.parametrize(
    "uri",
    [
        "https://developer.download.nvidia.evil.example/x",
        "https://evil.example/developer.download.nvidia.com",
        "https://developer.download.nvidia.com@evil.example/x",
        "http://developer.download.nvidia.com/x",
    ],
)
def test_a_keyring_is_fetched_from_nvidia_only(uri: str) -> None:
    """A package is installed from there, with all rights."""
    seen = healthy()
    apt = seen["machine"]["observation"]["apt"]
    apt["sources"].append({**apt["sources"][0], "uris": [uri], "fetched": False, "releases": []})
    assert "curl" not in by_hand.new_keyring(seen)
    apt["sources"][-1]["uris"] = ["https://developer.download.nvidia.com/compute/cuda/repos/ubuntu1804/x86_64/"]
    assert "curl -fsSLO https://developer.download.nvidia.com/" in by_hand.new_keyring(seen)


# Changes, carried out


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('GRUB_CMDLINE_LINUX="quiet modprobe.blacklist=nvidia"', 'GRUB_CMDLINE_LINUX="quiet modprobe.blacklist="'),
        (
            "GRUB_CMDLINE_LINUX_DEFAULT='module_blacklist=nvidia splash'",
            "GRUB_CMDLINE_LINUX_DEFAULT='module_blacklist= splash'",
        ),
        (
            'GRUB_CMDLINE_LINUX="modprobe.blacklist=nvidia,nvidia_drm,nvidiafb,nvidia-uvm,nouveau x=nvidia"',
            'GRUB_CMDLINE_LINUX="modprobe.blacklist=nvidiafb,nouveau x=nvidia"',
        ),
        ('GRUB_CMDLINE_LINUX="modprobe.blacklist=nouveau,nvidia"', 'GRUB_CMDLINE_LINUX="modprobe.blacklist=nouveau,"'),
        ("GRUB_CMDLINE_LINUX=module_blacklist=nvidia", "GRUB_CMDLINE_LINUX=module_blacklist="),
        ('# GRUB_CMDLINE_LINUX="modprobe.blacklist=nvidia"', '# GRUB_CMDLINE_LINUX="modprobe.blacklist=nvidia"'),
    ],
)
def test_only_the_drivers_names_go_from_the_command_line(before: str, after: str) -> None:
    """Of D44: what else is blacklisted there stays so."""
    command = ["sed", "-E", by_hand._OUT_AT_BOOT]
    assert subprocess.run(command, input=before, capture_output=True, text=True, check=True).stdout == after


# Removals, carried out

OWN = "http://archive.example/ubuntu"


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A PATH in which apt-get does nothing."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "apt-get").write_text("#!/bin/sh\n", encoding="utf-8")
    (folder / "apt-get").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def parsed(path: Path) -> List[Json]:
    """The sources in a file."""
    parse = parse_deb822 if path.suffix == ".sources" else parse_one_line
    found = parse(path.read_bytes().decode("utf-8"), str(path))
    return [dict(source, releases=[], fetched=True) for source in found[0]]


def carried_out(path: Path, programs: str, index: int, suites: Tuple[str, ...] = ()) -> str:
    """What a file holds after one of its sources was removed, twice; "" where it went as a whole."""
    found = parsed(path)
    apt = {"sources": found, "problems": [], "releases": [], "foreign_packages": []}
    command = sources.removal(found[index], apt, suites)
    assert not harms(command), command
    for _ in range(2):
        if path.exists():
            done = subprocess.run(["sh", "-euc", command], env={"PATH": programs}, check=True, capture_output=True)
            assert done.stdout + done.stderr == b""
    return path.read_bytes().decode("utf-8") if path.exists() else ""


STANZA = "Types: deb\nURIs: {}\nSuites: {}\nComponents: main\n"
OURS = f"# was {OWN} focal once\n" + STANZA.format(OWN, "bionic") + "Signed-By:\n -----BEGIN\n .\n -----END\n"
LINES = (
    f"## focal comes later: deb {OWN} focal main\n#deb {OWN} focal main\n"
    f"deb [arch=amd64]\t{OWN}  bionic main # {OWN} focal\n\n\n"
)
#: A file, what stands before the foreign source, it, and what stands after it.
CASES = [
    ("debian.sources", OURS + "\n", STANZA.format(OWN, "focal"), ""),
    ("x.sources", OURS + "\n\n \t\n", STANZA.format(OWN, "focal"), "\n\n" + STANZA.format(OWN, "bionic focal")),
    ("x.sources", OURS + "\n", STANZA.format(f"\n {OWN}\n#c\n {OWN}/x", "\n focal\n jammy"), "\n" + OURS),
    ("x.sources", OURS + "\n", f"types: deb\nuris :\t{OWN}\nsuites:  focal\ncomponents: main\n", "\n" + OURS),
    ("x.sources", "Enabled: no\n" + OURS + "\n", STANZA.format(OWN + "/focal", "focal"), "\n" + OURS),
    ("crlf.sources", OURS.replace("\n", "\r\n") + "\r\n", STANZA.format(OWN, "focal"), ""),
    ("ubuntu.list", LINES, f"deb {OWN} focal main\n", f"deb {OWN} focal-updates main\n"),
    ("sources.list", LINES, f"\tdeb\t[ arch=amd64 trusted=yes ]\t{OWN}/\tfocal\tmain\t# x\n", LINES),
    ("x.list", LINES, "deb [signed-by=/k] http://r:p@h.example/x/ focal main\n", f"deb {OWN} focal/x main\n"),
]


@pytest.mark.parametrize(("file", "before", "foreign", "after"), CASES)
def test_a_removal_takes_the_source_and_nothing_else(
    tmp_path: Path, programs: str, file: str, before: str, foreign: str, after: str
) -> None:
    """Byte for byte; comments, other stanzas and lines with the same words stay."""
    path = tmp_path / file
    path.write_bytes((before + foreign + after).encode())
    index = next(at for at, source in enumerate(parsed(path)) if source["suites"][0] == "focal")
    assert carried_out(path, programs, index) == before + after


def test_only_a_suite_is_taken_out(tmp_path: Path, programs: str) -> None:
    """Of a stanza that is the distribution's own otherwise; its neighbours have the same words."""
    path, rest = tmp_path / "ubuntu.sources", "\n" + OURS + "\n" + STANZA.format(OWN, "focal")
    path.write_text(STANZA.format(OWN, "bionic focal\n focal-updates") + rest, encoding="utf-8")
    assert carried_out(path, programs, 0, ("focal", "focal-updates")) == STANZA.format(OWN, "bionic") + rest


@pytest.mark.parametrize("name", ["ubuntu.sources", "debian.sources", "ubuntu-esm-infra.list", "sources.list"])
def test_a_file_of_the_distributions_stays(tmp_path: Path, programs: str, name: str) -> None:
    """Emptied at most."""
    path = tmp_path / name
    text = STANZA.format(OWN, "focal") if name.endswith(".sources") else f"deb {OWN} focal main\n"
    path.write_text(text, encoding="utf-8")
    assert carried_out(path, programs, 0) == "" and path.exists()


def test_a_file_with_a_line_that_cannot_be_read_stays() -> None:
    """Nobody knows what is meant by it."""
    source = parse_one_line(f"deb {OWN} focal main\n", "/etc/apt/sources.list.d/x.list")[0][0]
    apt = {"sources": [source], "problems": []}
    assert sources.removal(source, apt) == "rm /etc/apt/sources.list.d/x.list && apt-get update"
    apt["problems"] = [{"file": source["file"], "line": 2, "text": "", "error": ""}]
    assert sources.removal(source, apt).startswith("sed ")


def test_a_host_is_never_left_without_its_own_archive() -> None:
    """All of its sources name the next release: they are changed, not removed."""
    observation = observed("ubuntu1804-quadro-p2000")
    for source in observation["apt"]["sources"]:
        source.update(
            suites=[suite.replace("bionic", "focal") for suite in source["suites"]], releases=[], fetched=False
        )
    told = [p for p in preflight.problems(observation) if "which is not bionic" in p]
    assert told
    for problem in told:
        assert "No source of bionic is left" in problem and problem.endswith(
            "${EDITOR:-nano} /etc/apt/sources.list && apt-get update"
        )


WORD = st.text(st.sampled_from("ab.1~+!$(){}\\'\"`<>|&;*?^%@=,:-_/é"), min_size=1, max_size=12)


@given(path=WORD, suite=WORD, form=st.sampled_from(["deb822", "one-line"]))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_hostile_words_stay_words(tmp_path: Path, programs: str, path: str, suite: str, form: str) -> None:
    """Whatever stands in a source, its removal runs nothing, and takes away that source alone."""
    file = tmp_path / ("x.sources" if form == "deb822" else "x.list")
    uri, suite = f"http://h.example/{path}", f"s{suite.rstrip('/')}"
    one = f"deb {uri} {suite} main\n"
    foreign, ours = (STANZA.format(uri, suite) + "\n", OURS) if form == "deb822" else (one, LINES)
    for earlier in tmp_path.iterdir():
        earlier.unlink()
    file.write_text(foreign + ours, encoding="utf-8")
    found = parsed(file)
    if len(found) != 2:
        return  # such a word is not a source: preflight says that it cannot be read
    left = carried_out(file, programs, 0)
    assert left in (ours, "\n" + ours)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [file.name]


@pytest.mark.parametrize(
    ("names", "branch"),
    [
        (["nvidia-driver-580-open", "nvidia-utils-580"], "580-open"),
        (["nvidia-headless-no-dkms-580-server-open", "nvidia-utils-580-server"], "580-server-open"),
        (["nvidia-kernel-source-580-open", "nvidia-utils-580"], "580-open"),
        (["nvidia-dkms-580-open", "nvidia-firmware-580-580.178.04"], "580-open"),
        (["nvidia-dkms-580-server"], "580-server"),
        (["nvidia-utils-580-server"], "580-server"),
        (["libnvidia-compute-580"], ""),
    ],
)
def test_the_branch_is_that_of_the_modules_kind(names: List[str], branch: str) -> None:
    """A server often has no nvidia-driver: what brings the module says which kind it is, nvidia-utils does not."""
    packages = {name: {"version": "580.178.04-0ubuntu0.24.04.1", "state": "installed"} for name in names}
    assert by_hand.branch({"machine": {"observation": {"packages": packages}}}) == branch


# Where each is typed on a bed

CARD = "no bed has such a card, or NVIDIA's programs for it"
PERSON = "it shows something to a person, or opens an editor"
FOREIGN = "no bed has that package manager: its words are checked against its documentation above"
MODULE = "no module can be loaded into, and no boot loader started by, the kernel of a bed"
ONLINE = "it fetches gigabytes, or asks NVIDIA's server"
#: The forms of remedies, the first that matches: the test that types one as printed, or why none does.
TYPED = (
    (r"\./run ansible-playbook playbooks/(cuda|driver|guard)\.yml", "e2e/test_faults.py"),
    (r"\./run ansible-playbook playbooks/rebuild\.yml", "e2e/test_rebuild.py"),
    (r"\./run ansible-playbook playbooks/plan\.yml -e gpu_stack_relock=true", "roles/test_gpu_stack.py"),
    (r"\./run ansible-playbook playbooks/cudnn\.yml", "as playbooks/cuda.yml"),
    (r"\./run (ansible-playbook site\.yml|pytest verify/)", "e2e/test_site.py"),
    (r"\./run ansible-playbook playbooks/update\.yml -e update_once=true", "typed as an update by test_update_once"),
    (r"\./run ansible-playbook playbooks/virtualbox\.yml", "not yet: a bed has the role, not the whole playbook"),
    (r"rm /opt/gpuhost/store/\S+/\.gpuhost\.json", "e2e/test_site.py"),
    (r"chown -R root:root /opt/gpuhost ", "e2e/test_site.py"),
    (r"dpkg --configure -a && apt-get -f install", "e2e/test_site.py"),
    (r"printf .* > /etc/apt/\S+ && apt-get update && apt-get install .* nvidia-driver ", "e2e/test_debian_driver.py"),
    (r"apt-get update && apt-get install linux-\S+ nvidia-driver ", "as the one before, without its first part"),
    (r"apt-get update && apt-get install ubuntu-drivers-common ", "e2e/test_found.py"),
    (r"apt-get install --reinstall lib\S+ && ldconfig", "e2e/test_found.py"),
    (r"apt-get install (--reinstall )?(linux-|nvidia-(driver|tesla))", "as the others of apt-get, with other names"),
    (r"apt-get remove cuda-compat", "e2e/test_found.py"),
    (r"apt-get purge linux-image-", "e2e/test_faults.py"),
    (r"apt-get purge virtualbox-|/opt/VirtualBox/uninstall\.sh", "e2e/test_virtualbox.py"),
    (r"dkms install --force virtualbox/", "e2e/test_virtualbox.py"),
    (r"chown root:root /dev/vboxdrv ", MODULE),
    (r"apt-get update( #|$)", "the last part of others that are typed"),
    (r"(apt-get|dnf|zypper) install .*fabric|systemctl enable --now nvidia-fabricmanager", CARD),
    (r"rm /etc/apt/sources\.list\.d/", "e2e/test_faults.py"),
    (r"dpkg --install /opt/gpuhost/cache/debs/", "e2e/test_faults.py"),
    (r"ldconfig$", "e2e/test_faults.py"),
    (r"sed .*(ld\.so\.conf|/etc/modprobe\.d/|GRUB_DEFAULT=0.* && update-grub)", "e2e/test_faults.py"),
    (r"sed .*LD_(LIBRARY_PATH|PRELOAD)", "e2e/test_two_toolkits.py"),
    (r"sed .*/etc/apt/", "carried out above"),
    (r"sed .*GRUB_CMDLINE_LINUX", "carried out above"),
    (r"sed .*(GRUB_DEFAULT|loader\.conf)|bootctl |grub-editenv ", MODULE),
    (r"export LD_LIBRARY_PATH=", "e2e/test_found.py"),
    (r"unset (LD_LIBRARY_PATH|CUDA_VISIBLE_DEVICES)", "the stand-in of libcuda reads no variable"),
    (r"update-initramfs -u -k all && reboot", "e2e/test_found.py"),
    (r"update-initramfs -u -k ", "e2e/test_faults.py"),
    (r"reboot$|nvidia-modprobe -u -c=0 \|\| reboot", "e2e/test_faults.py"),
    (r"nvidia-ctk cdi generate", "e2e/test_found.py"),
    (r"mokutil --import /var/lib/(dkms|shim-signed)/", "e2e/secureboot/test_secure_boot.py"),
    (r"dkms autoinstall|depmod |modprobe |prime-select ", MODULE),
    (r"nvidia-smi|chmod 0666 /dev/nvidia|usermod -aG video", CARD),
    (r"docker run ", "it is for the machine around a container"),
    (r"curl .*developer\.download\.nvidia\.com|/\S+ -m pip install ", ONLINE),
    (r"\$\{EDITOR|grep -rF|ls -[lt] |grep -l 0x10de |dmesg ", PERSON),
    (r"(dnf|pacman|zypper|akmods|dracut|mkinitcpio|grubby|echo|rm /etc/rpm/) ?|\{ test -e /etc/pki/akmods", FOREIGN),
)  # fmt: skip


def test_each_remedy_is_typed_somewhere_or_it_is_said_why_not() -> None:
    """A new form of remedy is staged on a bed, or gets a reason; none of the table is left from an old one."""
    met: Set[str] = set()
    strange = []
    for of in (of_verify, of_doctor, of_preflight, of_judge):
        for command in {command for remedy in of() for command in commands(remedy)} - {"", TOO_LONG, NOT_PLAIN}:
            form = next((pattern for pattern, _ in TYPED if re.match(pattern, command)), None)
            strange += [] if form else [command]
            met |= {form} if form else set()
    assert strange == [] and [pattern for pattern, _ in TYPED if pattern not in met] == []


@pytest.mark.parametrize("file", sorted({where for _, where in TYPED if where.endswith(".py")}))
def test_a_file_that_types_remedies_types_what_is_printed(file: str) -> None:
    """Where the tests have moved, so does the table."""
    assert re.search("remed|gpu_stack_relock|rebuild_confirm", (Path(__file__).parents[1] / file).read_text("utf-8"))
