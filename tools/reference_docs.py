"""Write docs/reference/{rules,stacks,opencv-options,diagnoses,lock}.md, docs/troubleshooting.md, docs/architecture.md.

python tools/reference_docs.py           write them
python tools/reference_docs.py --check   only say which are out of date (exit 1)
"""

from __future__ import annotations

import argparse
import ast
import copy
import importlib
import json
import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, FrozenSet, Iterator, List, Mapping, Tuple, cast

from gpuhost.checks.base import ON_HOST, THEN_HERE
from gpuhost.cvbuild import failures, options
from gpuhost.cvbuild.archs import Architectures
from gpuhost.diagnoses import apart
from gpuhost.diagnoses import table as diagnoses
from gpuhost.doctor import messages
from gpuhost.errors import RefusedError
from gpuhost.planning import lock, plan, virtualbox
from gpuhost.planning.candidates import NAMES, Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.resolve import resolver
from gpuhost.planning.rules.table import BESIDE, RULES
from gpuhost.planning.rules.virtualbox import known
from gpuhost.planning.versions import specifier
from gpuhost.shapes.lock import LockedCard, Plan
from gpuhost.shapes.observation import Observation
from gpuhost.shipping import bundle
from gpuhost.types import Json, present

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
FAULTS, HEALED = ROOT / "tests/hosts/faults", ROOT / "tests/e2e/faults.json"
HEALED_AS_FOUND = ROOT / "tests/e2e/found.json"
ELSEWHERE = ROOT / "tests/unit/elsewhere.json"
LOCKLESS = ROOT / "tests/hosts/found"
MADE = "Written by tools/reference_docs.py; do not edit."
# The cards that people ask about, from the oldest to those of data centres.
CARDS = ("GTX 750 Ti", "Quadro P2000", "RTX 2080", "RTX 3090", "RTX 4090", "H100", "H200", "RTX 5090", "10de:2901")
#: The series of kernels that each release's archive has: its first one, and those of its hardware enablement.
KERNELS = {
    "debian-12": ("6.1",),
    "debian-13": ("6.12",),
    "ubuntu-18.04": ("4.15", "5.4"),
    "ubuntu-20.04": ("5.4", "5.15"),
    "ubuntu-22.04": ("5.15", "6.8"),
    "ubuntu-24.04": ("6.8", "6.14", "7.0"),
    "ubuntu-26.04": ("7.0",),
}
# Who asks what: platform, cards, demands.
ASKED: Tuple[Tuple[str, List[str], Dict[str, str]], ...] = (
    *(
        ("ubuntu-18.04", [card], {})
        for card in (
            "Tesla K80",
            "GTX 750 Ti",
            "Quadro P2000",
            "Tesla T4",
            "RTX 2080",
            "RTX 3090",
            "RTX 4090",
            "H100",
            "H200",
            "RTX 5090",
        )
    ),
    ("ubuntu-18.04", ["Quadro P2000", "RTX 3090"], {}),
    ("ubuntu-18.04", ["Quadro P2000"], {"tensorflow": "2.0", "opencv": "4.2"}),
    ("ubuntu-18.04", ["GTX 750 Ti"], {"opencv": "4.2"}),
    ("ubuntu-18.04", ["GTX 750 Ti"], {"tensorflow": "2.3"}),
    ("ubuntu-18.04", [], {}),
    ("debian-12", ["GTX 750 Ti"], {}),
    ("debian-12", ["Quadro P2000"], {}),
    ("debian-12", ["RTX 3090"], {}),
    ("debian-12", ["H200"], {}),
    ("debian-12", [], {}),
    *((platform, [card], {}) for platform in ("debian-13", "ubuntu-24.04") for card in CARDS),
    ("debian-13", [], {}),
    ("ubuntu-24.04", [], {}),
)
#: How more than a plan was seen for a platform and a card: how, and the test that shows it.
IMITATED, FOR_REAL = "installed on an imitation", "installed for real, without a card"
SEEN: Dict[Tuple[str, str], List[Tuple[str, str]]] = {
    ("ubuntu-18.04", "GTX 750 Ti"): [
        (IMITATED, "tests/e2e/test_gpu_fleet.py"),
        ("OpenCV built (on Debian 12)", "tests/opencv/test_cuda_118.py"),
    ],
    ("ubuntu-18.04", "Quadro P2000"): [(IMITATED, "tests/e2e/test_gpu_fleet.py")],
    ("ubuntu-18.04", "RTX 3090"): [(IMITATED, "tests/e2e/test_gpu_fleet.py")],
    ("ubuntu-18.04", "H200"): [(IMITATED, "tests/e2e/test_gpu_fleet.py")],
    ("ubuntu-20.04", "RTX 4090"): [(IMITATED, "tests/e2e/test_releases.py")],
    ("ubuntu-22.04", "RTX 4090"): [(IMITATED, "tests/e2e/test_releases.py")],
    ("ubuntu-24.04", "RTX 4090"): [(IMITATED, "tests/e2e/test_releases.py")],
    ("ubuntu-26.04", "RTX 5090"): [(f"{IMITATED}, without TensorFlow", "tests/e2e/test_releases.py")],
    ("debian-12", "Quadro P2000"): [
        (f"driver {FOR_REAL}", "tests/e2e/test_debian_driver.py"),
        (f"CUDA {FOR_REAL}", "tests/e2e/test_cuda_wheels.py"),
    ],
}


def rules() -> str:
    """The table of the rules."""
    about = "A plan satisfies every rule that applies to the host; a refusal names the rules that block it."
    lines = ["# The rules", "", MADE, "", about, ""]
    lines += ["| rule | components | what must be true | source |", "|---|---|---|---|"]
    for rule in (*RULES, *BESIDE):
        about = " and ".join(NAMES.get(name, "VirtualBox") for name in rule.on)
        only = "" if rule.with_gpu else " (hosts without a GPU)"
        lines.append(f"| `{rule.id}` | {about} | {rule.title}{only} | {rule.source} |")
    return "\n".join(lines) + "\n"


def planned(platform: str, cards: List[str], asked: Dict[str, str], without: FrozenSet[str] = frozenset()) -> Plan:
    """The plan of one row."""
    found = resolver()
    gpus = tuple(parse(found.catalog, card) for card in cards)
    wanted = {k: specifier(k, v) for k, v in asked.items()}
    return plan.make(found, Request(platform, gpus, wanted, asked, without=without))


def matrix() -> List[str]:
    """What each card gets on each platform, in a word, and how that was seen."""
    platforms = sorted(resolver().catalog.platforms["platforms"])
    lines = [f"| card | {' | '.join(platforms)} |", "|---" * (len(platforms) + 1) + "|"]
    notes: List[str] = []
    for card in CARDS:
        cells = []
        for platform in platforms:
            seen = SEEN.get((platform, card), [])
            for how, test in seen:
                if not (ROOT / test).is_file():
                    raise FileNotFoundError(f"{test}, which shows {card} on {platform}")
                notes.append(f"{card} on {platform}: {how} ([{test}](../../{test})).")
            cells.append(in_a_word(platform, card) + "".join(f" [{len(notes) - n}]" for n in range(len(seen))[::-1]))
        named = parse(resolver().catalog, card)
        lines.append(f"| {named.name} ({named.compute_capability}) | {' | '.join(cells)} |")
    return [*lines, "", *(f"{number}. {note}" for number, note in enumerate(notes, start=1)), ""]


def in_a_word(platform: str, card: str) -> str:
    """The driver's branch, CUDA and TensorFlow of a plan; for a refusal, what there is without TensorFlow."""
    made = planned(platform, [card], {})
    text = ""
    if made["status"] == "refused":
        made, text = planned(platform, [card], {}, frozenset({"tensorflow"})), "refused; without TensorFlow: "
    if made["status"] == "refused":
        return "refused"
    driver: Mapping[str, Any] = made["driver"] or {}
    named = re.sub("^nvidia-driver-", "", driver.get("package", f"`.run` {driver['branch']}"))
    named = driver["branch"] if named == "nvidia-driver" else named
    if driver["source"] == "runfile" and driver["kernel_modules"] == "open":
        named += ", open"
    series = ".".join(present(made["cuda"])["version"].split(".")[:2])
    tensorflow = f", TF {made['tensorflow']['version']}" if made["tensorflow"] else ""
    return f"{text}{named}; CUDA {series}{tensorflow}"


def stacks() -> str:
    """What some cards get."""
    about = "The same as `gpuhost plan --os PLATFORM --gpu CARD ...` prints."
    lines = ["# What some cards get", "", MADE, "", "## Platforms and cards", ""]
    lines += [
        "Each cell names the driver (the branch of the package, with its kind of module, or NVIDIA's `.run`), CUDA,",
        "and TensorFlow (TF). Every cell was planned by the resolver and checked by a second, independent checker; a",
        "number refers to the list below the table, of what was tried in addition. Nothing was run on a card.",
        "",
        *matrix(),
        "## In full",
        "",
        about,
        "",
    ]
    lines += ["| platform | card | asked for | driver | CUDA | cuDNN | OpenCV | TensorFlow |", "|---" * 8 + "|"]
    for platform, cards, asked in ASKED:
        made = planned(platform, cards, asked)
        who = " + ".join(f"{g['name']} ({g['compute_capability']})" for g in made["gpus"]) or "none"
        wish = ", ".join(f"{NAMES[k]} {v}" for k, v in asked.items())
        if made["status"] == "refused":
            why = "; ".join(f"`{r['rule']}`: {r['text']}, needs {r['needs']}" for r in made["reasons"])
            lines.append(f"| {platform} | {who} | {wish} | refused: {why} | | | | |")
            continue
        cells = [version or "" for version in plan.components(made).values()]
        driver: Mapping[str, Any] = made["driver"] or {}
        if driver:
            cells[0] += f" ({driver.get('package', '.run')})"
        cells[-1] += f" (Python {present(made['tensorflow'])['python']})"
        lines.append(f"| {platform} | {who} | {wish} | {' | '.join(cells)} |")
    return "\n".join([*lines, *virtualboxes()]) + "\n"


def virtualboxes() -> List[str]:
    """Which VirtualBox goes with which kernel, and what each platform has of it."""
    table = resolver().catalog.virtualbox
    lines = ["", "## VirtualBox beside the stack", ""]
    lines += [
        "VirtualBox is off by default ([how](../how-to/virtualbox.md)). For each release, and those that follow it up",
        "to the next row, the table has the newest kernel that the modules are known to compile against, and the first",
        "that they are known to fail with. For kernels in between nothing is known: the plan says so, and DKMS shows",
        "whether they compile.",
        "",
        "| from release | compiles up to kernel | fails from kernel | source |",
        "|---" * 4 + "|",
    ]
    for row in table["kernels"]:
        lines.append(f"| {row['from']} | {row['builds'] or ''} | {row['fails'] or 'not known'} | {row['source']} |")
    about = "What the archives have, and the package's kernels where they are known to differ from its release's:"
    lines += ["", about, ""]
    lines += ["| platform | package version | kernels of the package | source | not verified |", "|---" * 5 + "|"]
    for platform, archive in sorted(table["archives"].items()):
        for row in archive["packages"] or [{"package_version": "none", "source": archive["source"]}]:
            told = [f"up to {row['builds']}"] if row.get("builds") else []
            told += [f"not {row['fails']}"] if row.get("fails") else []
            cells = [row["package_version"], ", ".join(told), row["source"], row.get("unverified", "")]
            lines.append(f"| {platform} | {' | '.join(cells)} |")
    said = "What the plan gives each platform, by its archive's kernels (`gpuhost plan --virtualbox --kernel VERSION`):"
    lines += ["", said, ""]
    lines += ["| platform | kernel | VirtualBox | do its modules compile? |", "|---" * 4 + "|"]
    for platform, kernels in sorted(KERNELS.items()):
        lines += [f"| {platform} | {kernel} | {' | '.join(beside(platform, kernel))} |" for kernel in kernels]
    lines += [
        "",
        "Oracle's own files, by sha256:",
        "",
        "| release | file | sha256 of its SHA256SUMS | not verified |",
        "|---" * 4 + "|",
    ]
    for row in table["releases"]:
        sums = f"`{row['sums_sha256'][:12]}\N{HORIZONTAL ELLIPSIS}`" if row["sums_sha256"] else ""
        cells = [row["version"], f"`{row['installer']['name']}`", sums, row.get("unverified", "")]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def beside(platform: str, kernel: str) -> Tuple[str, str]:
    """The VirtualBox that the plan gives a platform with a kernel, and who says that it compiles; or why none."""
    try:
        held = virtualbox.part(platform, "", kernel=kernel)
    except RefusedError as refused:
        return "refused", " ".join(str(refused).split())
    chosen = known(shipped(), virtualbox.as_candidate(shipped(), held, platform))
    origin = "Oracle's file" if held["source"] == "runfile" else "the archive's"
    says = f"yes: {chosen.source}" if chosen.compiles(kernel) else "not known: DKMS will show"
    return f"{held['version']}, {origin}", says


def opencv() -> str:
    """OpenCV's configure options and the ids of what can go wrong."""
    about = (
        "What `build/opencv_cmake.py --why` prints for one machine, in the profile `dnn`; the value in the profile "
        "`full` follows where it differs. A `<name>` stands for a path of that machine."
    )
    lines = ["# Building OpenCV: options and errors", "", MADE, "", "## Options, in order", "", about, ""]
    lines += ["| option | value | origin | reason | since OpenCV |", "|---" * 5 + "|"]
    made = {p: {o.name: o.value for o in options.options(example(p))} for p in options.PROFILES}
    for name, _, origin, reason, since in options.ROWS:
        value = made["dnn"].get(name, "")
        note = f" (*full*: {made['full'].get(name, 'all modules')})" if value != made["full"].get(name, "") else ""
        lines.append(f"| `{name}` | `{value}`{note} | {origin} | {reason} | {since} |")
    lines += ["", "`--option` may set any of them except these:", ""]
    lines += [f"- `{name}`. {instead}" for name, instead in options.PROTECTED.items()]
    lines += ["", "## Errors", "", "| id | exit code | what it means |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind.error.exit_code} | {kind.about} |" for name, kind in failures.KINDS.items()]
    return "\n".join(lines) + "\n"


def example(profile: str) -> options.Settings:
    """Settings whose places are words."""
    words = {f: f"<{f}>" for f in options.Settings._fields}
    own = {"opencv": "4.14.0", "archs": Architectures(["6.1"], []), "profile": profile, "modules": (), "nonfree": False}
    return options.Settings(**{**words, **own, "cpu": "AVX2", "more": (), "ccache": True})  # type: ignore[arg-type]


#: Why a diagnosis is not staged on an imitation host, but shown on described faults only.
NOT_STAGED = {
    "D38": "needs a card to fix it",
    "D39": "needs a container engine",
    "D41": "needs a card that can be hidden from CUDA",
    "D42": "needs a framework built for the CPU only, and one for a card",
    "D12": "needs a person at the blue screen; `tests/e2e/test_driver_ubuntu.py` leads one through it on another host",
    "D13": "needs a card of another generation",
    "D15": "a lock that pairs such a driver and toolkit is refused by the plan",
    "D16": "needs a card that fails",
    "D17": "needs an OpenCV built with CUDA, and a card",
    "D18": "needs an OpenCV built with CUDA",
    "D29": "needs an OpenCV built with CUDA, and a card",
    "D32": "needs a card",
    "D33": "needs a card",
    "D47": "needs a card with MIG",
    "D46": "needs a card that fails",
    "D45": "needs NVSwitches",
    "D51": "`tests/unit/test_own_libraries.py` stages it with the real linker, where the remedy, as printed, fixes it",
    "D52": "`tests/e2e/test_virtualbox.py` stages it with Debian unstable's packages; the printed remedies fix it",
    "D54": "needs two releases of VirtualBox that compile against one kernel",
    "D56": "`tests/e2e/test_virtualbox.py` stages it beside Debian unstable's packages; the printed remedies fix it",
    "D53": "needs Secure Boot; `tests/e2e/secureboot/test_virtualbox.py` boots such a machine",
    "D55": "needs a CPU with virtualisation and KVM",
    "D43": "needs a loaded driver whose NVML refuses a user",
}


def known_failures() -> str:
    """Every diagnosis: its words, who gives it, and how that was shown."""
    faults = {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted([*FAULTS.glob("*.json"), *LOCKLESS.glob("*.json")])
    }
    records = [json.loads(file.read_text(encoding="utf-8")) for file in (HEALED, HEALED_AS_FOUND)]
    healed = [row for record in records for row in record["healed"]]
    shown = json.loads(ELSEWHERE.read_text(encoding="utf-8"))
    about = (
        "A known failure has an id, which you can look up here. `verify/` prints it, and so does `gpuhost doctor` on a "
        "host without a lock."
    )
    lines = ["# Diagnoses", "", MADE, "", about, ""]
    lines += ["| id | title | cause | fix | reported by |", "|---" * 5 + "|"]
    for one in diagnoses.BY_ID.values():
        given = [f"`{check}`" for check in dict.fromkeys(sign.check for sign in one.signs)]
        given += [where if " " in where else f"`{where}`" for where in one.elsewhere]
        who = f"nothing: {one.never}" if one.never else ", ".join(given)
        lines.append(f"| {one.id} | {one.title} | {one.cause} | {one.fix} | {who} |")
    about = (
        "*Described*: the number of hosts in `tests/hosts/faults` and, without a lock, in `tests/hosts/found` for "
        "which the unit tests see this id reported and no other. *Staged*: the check that failed with the fault staged "
        f"on an imitation host, by `tests/e2e/test_faults.py` ({records[0]['made']}) or, on a host without a lock, by "
        f"`tests/e2e/test_found.py` ({records[1]['made']}); or why it was not staged. *Seen to fail*: whether a test "
        "has seen the diagnosis reported. *Fixed*: whether the remedy, typed as printed, made the check pass again. "
        "*Other tests*: those of the other parts that report the id."
    )
    lines += ["", "## How it was shown", "", about, ""]
    lines += ["| id | described | staged | seen to fail | fixed | other tests |", "|---" * 6 + "|"]
    for one in diagnoses.BY_ID.values():
        hosts = sum(one.id in fault["fails"].values() for fault in faults.values())
        staged = [row for row in healed if row["diagnosis"] == one.id]
        where = "<br>".join(dict.fromkeys(f"`{row['check']}`" for row in staged)) or NOT_STAGED.get(one.id, "")
        named = dict.fromkeys(test.replace("tests/", "", 1) for test in shown.get(one.id, {}).values())
        tests = "<br>".join(f"`{test}`" for test in named)
        red = "yes" if hosts else "by its test" if not one.never else "it cannot happen"
        cells = [str(hosts or ""), where, red, "yes" if staged else "", tests]
        lines.append(f"| {one.id} | {' | '.join(cells)} |")
    lines += ["", "## What was staged", "", "| id | check | fault | remedy |", "|---" * 4 + "|"]
    for row in sorted(healed, key=lambda row: row["diagnosis"]):
        remedy = row["remedy"].replace("|", r"\|").replace("\n", "`<br>`")
        lines.append(f"| {row['diagnosis']} | `{row['check']}` | {row['fault']} | `{remedy}` |")
    return "\n".join(lines) + "\n"


#: What people paste most, as their tools print it.
PASTED = (
    "no CUDA-capable device is detected",
    "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
    "Failed to initialize NVML: Driver/library version mismatch",
    "modprobe: ERROR: could not insert 'nvidia': Required key not available",
    "CUDA driver version is insufficient for CUDA runtime version",
    "Could not load dynamic library 'libcudart.so.10.1'",
    "CUDA unknown error - this may be due to an incorrectly set up environment",
    "no kernel image is available for execution on the device",
)


#: Where there is more about a cause.
MORE = {
    "A dead card": ("runbooks/rebuild.md#a-dead-card", ("D16", "D38", "D46")),
    "No module": ("runbooks/rebuild.md#no-module", ("D08", "D10", "D50")),
    "The guard": ("how-to/updates.md#what-is-held", ("D02", "D03", "D04")),
    "The reboot": ("how-to/gpu-host.md#the-reboot", ("D01", "D09", "D36")),
    "Secure Boot": ("how-to/gpu-host.md#secure-boot", ("D11", "D12")),
    "Choose versions": ("how-to/choose-versions.md", ("D13", "D15", "D33")),
    "Kept files": ("how-to/air-gapped.md", ("D05",)),
    "Build OpenCV": ("how-to/opencv.md", ("D17", "D18", "D19", "D20", "D21", "D22", "D23", "D24", "D25", "D26", "D29")),
    "Benchmarks": ("reference/benchmarks.md", ("D27", "D28")),
    "CUDA": ("how-to/cuda.md", ("D30", "D31", "D51")),
    "VirtualBox": ("how-to/virtualbox.md", ("D52", "D53", "D54", "D55", "D56")),
}
#: The name of a file by its checksum; the described hosts have made ones.
SUM = re.compile(r"/[0-9a-f]{32,}/")


def printed() -> Tuple[Dict[str, Counter[str]], Dict[str, Counter[str]]]:
    """Return the remedies that the described hosts of the tests get, by diagnosis: with a lock, and without one."""
    sys.path.insert(0, str(ROOT))
    collected, faults, lockless = (
        importlib.import_module("tests.unit." + name) for name in ("collected", "faults", "lockless")
    )
    locked: Dict[str, Counter[str]] = {}
    found: Dict[str, Counter[str]] = {}
    reports = [lockless.examined(lockless.changed(fault)) for fault in lockless.FAULTS.values()]
    for fault in map(faults.read, faults.FILES):
        seen = faults.made(fault)
        if "error" in seen["machine"]:
            continue
        if seen["lock"] is not None:
            for result in collected.judged(copy.deepcopy(seen)).values():
                if result.diagnosis and result.remediation:
                    locked.setdefault(result.diagnosis, Counter())[result.remediation] += 1
        if fault["host"] != "beside":  # what is beside the driver has to be asked for in a lock
            reports.append(lockless.examined(lockless.without_lock(seen)))
    for report in reports:
        for row in report["findings"] + report["risks"]:
            if row["diagnosis"] and row["remedy"]:
                found.setdefault(row["diagnosis"], Counter())[row["remedy"]] += 1
    return locked, found


def most(remedies: Dict[str, Counter[str]], identity: str) -> List[str]:
    """Return the lines of the remedy that most of the described hosts with a diagnosis get.

    Of several, one that was typed on a test host, and a reboot last, because it fixes only what is otherwise in place.
    """
    typed = {
        row["remedy"] for file in (HEALED, HEALED_AS_FOUND) for row in json.loads(file.read_text("utf-8"))["healed"]
    }
    counted = remedies.get(identity, Counter())
    order = {
        text: (text.endswith("reboot") and "&" not in text, -counted[text], text not in typed, text) for text in counted
    }
    chosen = min(counted, key=lambda text: order[text], default="")
    return [SUM.sub("/SHA256/", line) for line in chosen.split("\n") if line]


def troubleshooting() -> str:
    """Return the page that leads from the words of an error to its causes, and from a cause to its fix."""
    known: Dict[str, List[diagnoses.Diagnosis]] = {}
    for one in diagnoses.BY_ID.values():
        for message in one.messages:
            known.setdefault(message, []).append(one)
    lines = [
        "# Troubleshooting",
        "",
        MADE,
        "",
        "1. On the machine itself, `./run gpuhost doctor` names the cause and says what to type",
        "   ([how](how-to/doctor.md)). It needs neither a lock nor root.",
        "2. Or search this page for the error message, without version numbers and names of your machine. Each",
        "   cause says how to recognise it, how to fix it, and what to type.",
        "",
        apart.RULE,
        "",
        "## The most frequent messages",
        "",
        "| the message | may be |",
        "|---" * 2 + "|",
        *(f"| `{text}` | {links([one for one, _ in messages.named(text)])} |" for text in PASTED),
        "",
        "## Every known message",
        "",
        "`*` stands for any few words.",
        "",
        "| the message | may be |",
        "|---" * 2 + "|",
    ]
    for message in sorted(known, key=lambda text: re.sub(r"\W", "", text).lower()):
        lines.append(f"| `{message}` | {links(apart.likeliest_first(known[message]))} |")
    lines += [
        "",
        "## The causes",
        "",
        "The commands to type are those for a host that the tests describe, on Ubuntu or Debian. Kernels, packages and",
        "cards in them are that host's: replace them with yours, or let the doctor print the command for your machine.",
        "",
    ]
    locked, found = printed()
    for one in diagnoses.BY_ID.values():
        lines += cause(one, most(locked, one.id), most(found, one.id))
    return "\n".join(lines)


def cause(one: diagnoses.Diagnosis, locked: List[str], found: List[str]) -> List[str]:
    """Return the lines about one cause; `locked` and `found` are what to type on a host with a lock and without one."""
    told = apart.BY_ID[one.id]
    only = f" Only {told.only}." if told.only else ""
    lines = [f"### {one.id}", "", f"**{one.title}.** {one.cause}{only}", ""]
    lines += [f"- How to recognise it: {told.look}"] if told.look else []
    lines.append(f"- Fix: {one.fix}")
    for where, remedy in (("On a host that gpuhost set up, type", locked), ("On any other, type", found)):
        if remedy:
            lines += [f"- {where}:", "", "  ```text", *(f"  {line}" for line in shell_lines(remedy)), "  ```", ""]
    more = [f"[{title}]({page})" for title, (page, ids) in MORE.items() if one.id in ids]
    lines += [f"- More: {', '.join(more)}."] if more else []
    return [*lines, ""] if lines[-1] else lines


def shell_lines(remedy: List[str]) -> List[str]:
    """Return a remedy as lines for a shell: where each is typed is a comment above it."""
    lines: List[str] = []
    for line in remedy:
        place = next((place for place in (ON_HOST, THEN_HERE) if line.startswith(place)), "")
        lines += [f"# {place.strip(': ').lower()}", line[len(place) :]] if place else [line]
    return lines


def links(found: List[diagnoses.Diagnosis]) -> str:
    """Return diagnoses as links within the page of the causes, with what a machine must have to show them."""
    only = {one.id: f" (only {apart.BY_ID[one.id].only})" if apart.BY_ID[one.id].only else "" for one in found}
    return "<br>".join(f"[{one.id}](#{one.id.lower()}) {one.title}{only[one.id]}" for one in found)


def layers_of(text: str) -> List[str]:
    """Return the rooms, top down, as the contract in pyproject.toml has them; the last one is the ground floor."""
    return re.findall(r'^    "([^"]+)",$', text.partition("[tool.importlinter]")[2].partition("[tool.mypy]")[0], re.M)


def arrows(package: Path, rooms: List[str]) -> List[Tuple[str, str]]:
    """Return which room imports which, read from the modules, top down; an import that leads up is an error."""
    found = set()
    for path in package.rglob("*.py"):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        for used in bundle.imports(name, path.read_text(encoding="utf-8")):
            pair = (parts[0], used.partition(".")[0])
            if pair[0] != pair[1] and set(pair) <= set(rooms):
                found.add(pair)
    for upper, lower in found:
        if rooms.index(upper) > rooms.index(lower):
            raise SystemExit(f"{upper} imports {lower}, which stands above it: bash .ci/run rooms says where.")
    return sorted(found, key=lambda pair: [rooms.index(room) for room in pair])


def architecture() -> str:
    """The way of an observation, the imports, and the rooms with what each of them says of itself."""
    package = ROOT / "src/gpuhost"
    layers = layers_of((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = [layer for layer in layers if " : " not in layer]
    lines = [
        "# Architecture",
        "",
        MADE,
        "",
        "## The path of an observation",
        "",
        "```",
        "   a host                                 the controller",
        "",
        "   host/probe  reads the machine ------>  shipping/answers     checks it by a schema",
        "                                             |",
        "                                          planning             rules, resolver, plan",
        "                                             |",
        "                                          locks/HOST/stack.json, in git",
        "                                             |",
        "   host/driver, toolkit, store  <-------  roles and plugins    obey the lock",
        "                                             |",
        "   host/probe  reads it again  -------->  verification         collects",
        "                                          checks, diagnoses    judge",
        "                                          report               tells",
        "```",
        "",
        "## The rooms of `src/gpuhost`, top down",
        "",
        "A room is a sub-package, and imports only from rooms below it; `bash .ci/run rooms` checks that. The arrows",
        "are the imports that exist, without those of the ground floor, which every room may use.",
        "",
        "```mermaid",
        "flowchart TD",
        *(f"    {upper} --> {lower}" for upper, lower in arrows(package, rooms)),
        "```",
        "",
        "| room | what it is |",
        "|---|---|",
    ]
    for layer in layers:
        if " : " in layer:
            listed = ", ".join(
                f"`{name}/`" if (package / name).is_dir() else f"`{name}.py`" for name in layer.split(" : ")
            )
            lines.append(f"| the ground floor: {listed} | what every room may use |")
            continue
        for file in sorted((package / layer).rglob("__init__.py"), key=lambda file: file.parent):
            lines.append(f"| `{file.parent.relative_to(package).as_posix()}/` | {first_paragraph(file)} |")
    return "\n".join(lines) + "\n"


def first_paragraph(path: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


#: What each line of a lock says, by its place; a word alone stands for every place that ends so.
LINES: Dict[str, str] = {
    "schema": "The version of the format. An unknown one is refused; `gpuhost lock upgrade` converts an older one.",
    "host": "The host's name in the inventory, or a list where several share the lock. Another host's lock is refused.",
    "cards": "The cards in the machine when it was made. A different card stops every playbook but `rebuild.yml`.",
    "pci_address": "Where the card is on the bus. A move to another slot does not count as a change.",
    "pci_id": "The card's model, as vendor and device id.",
    "uuid": "The identity of this one card, if a driver was loaded that could read it.",
    "plan": "What the host gets, as `gpuhost plan --json` prints it.",
    "plan.schema": "The version of the plan's format.",
    "plan.status": "Always `planned`: a refusal never becomes a lock.",
    "plan.platform": "The distribution and its release. On any other the lock is refused.",
    "plan.gpus": "The cards that the plan is for.",
    "name": "Its name.",
    "chip": "The card's chip.",
    "compute_capability": "The compute capability that OpenCV is built for, and that TensorFlow needs code for.",
    "generation": "The generation, which decides which drivers support the card.",
    "version": "Exactly this version is installed.",
    "plan.driver": "The driver.",
    "plan.cuda": "The CUDA toolkit.",
    "plan.cudnn": "cuDNN.",
    "plan.opencv": "OpenCV.",
    "plan.tensorflow": "TensorFlow.",
    "plan.driver.source": "`archive`: a package of the distribution. `runfile`: NVIDIA's `.run`.",
    "plan.driver.branch": "The driver's branch.",
    "plan.driver.kernel_modules": "The kind of kernel modules, `proprietary` or `open`.",
    "plan.driver.modules_from": "`signed`: prebuilt by the distribution. `dkms`: built on the host.",
    "plan.driver.secure_boot": "What Secure Boot requires: nothing (`null`), a signed module, or a key of your own.",
    "plan.driver.modules": "The package of prebuilt modules for the kernel that boots, where there is one.",
    "plan.driver.package": "The driver's main package.",
    "package_version": "The version of the package.",
    "plan.driver.packages": "Every package of the driver, as the host's archive offers them.",
    "snapshot": "Where the distribution keeps this file permanently, if it does.",
    "plan.driver.component": "The component of the archive that has the package.",
    "plan.driver.modules_package": "The name with which the packages of prebuilt modules begin.",
    "file": "The file's name.",
    "sha256": "The file's checksum. A file with another one is refused, wherever it comes from.",
    "size": "Its size in bytes.",
    "url": "Where it is downloaded from, unless a mirror or a folder has it. Only known origins are accepted.",
    "md5": "NVIDIA's published MD5 of the file, for reference.",
    "plan.cuda.series": "The series, to which TensorFlow's tested versions and OpenCV's limits refer.",
    "plan.cuda.source": "`runfile`: NVIDIA's installer. `wheels`: NVIDIA's packages by hash.",
    "plan.cudnn.source": "`tarball`: NVIDIA's tarball. `wheels`: NVIDIA's packages by hash.",
    "plan.cudnn.cuda": "The CUDA that it is built for.",
    "plan.opencv.cuda_arch_bin": "The compute capabilities that OpenCV is built for.",
    "plan.opencv.source": "`sdist` or `tarballs`: built on the host. `wheel`: the package index's, without a card.",
    "python": "The Python of its environment.",
    "plan.opencv.artifacts": "The files that it is built from.",
    "kind": "What kind of file or entry this is.",
    "kernel": "The kernel that boots.",
    "package": "The name of the package.",
    "checked": "Whether the checksum was verified against the file itself.",
    "plan.tensorflow.environment": "The environment that was chosen; its packages are in its pylock file.",
    "plan.tensorflow.code": "Per compute capability: machine code (`cubin`), or compiled at first use (`ptx-jit`).",
    "plan.reasons": "The reasons of a refusal, so always empty in a lock.",
    "plan.notes": "Notes for people.",
    "about": "The component that the note is about.",
    "unverified": "`true` if no source confirms it.",
    "text": "The note.",
    "plan.asked": "What was asked for (`gpu_stack_wanted`).",
    "plan.asked.tensorflow": "The version, as it was typed.",
    "plan.without": "What was left out by choice (`gpu_stack_without`).",
    "contents": "What is downloaded and built for the plan, copied from the catalog when the lock was made.",
    "contents.pythons": "The archive's packages for each Python.",
    "contents.toolkits": "How each toolkit is installed; its file is in the plan, or here for an additional toolkit.",
    "options": "Options for NVIDIA's installer; `PREFIX` stands for the toolkit's folder in the store.",
    "archive": "Packages of the archive that its programs need.",
    "contents.opencv": "What OpenCV, or its build, needs.",
    "packages": "Packages of the archive: the compiler, Python's headers, ccache.",
    "contents.opencv.build": "The limits that the build checks on its machine before it begins.",
    "capability_min": "The lowest compute capability that OpenCV's CUDA backend supports.",
    "cudnn": "The cuDNN that it works with.",
    "cuda": "The CUDA that it works with.",
    "min": "The oldest.",
    "max": "The newest.",
    "cmake_min": "The oldest CMake.",
    "gcc": "The GCC versions that this CUDA accepts.",
    "gcc_packages": "The compiler packages that the archive has, the preferred one first.",
    "clash_from_glibc": "The first glibc with which this CUDA's headers have to be included as system headers.",
    "integrated": "Compute capabilities of integrated chips (not cards), which nothing is built for.",
    "contents.weights": "The published YOLO weights, if they were asked for.",
    "contents.expects": "What else `verify/` compares the host with.",
    "contents.expects.cuda": "The drivers that this CUDA works with.",
    "driver_min": "The driver that was released with it; newer ones work too.",
    "driver_min_minor_compat": "The oldest driver that works through minor-version compatibility.",
    "contents.expects.tensorflow": "The CUDA and cuDNN that this TensorFlow was built with.",
    "contents.expects.tensorflow.cuda": "The series of CUDA.",
    "contents.expects.tensorflow.cudnn": "The series of cuDNN.",
    "pylocks": "The files beside the lock, one for each Python environment, with their sha256.",
}


def lock_page() -> str:
    """A lock, line by line."""
    made = lock.make(
        "gpu1",
        cast(Observation, {"gpus": [], "platform": {}}),
        planned("ubuntu-18.04", ["Quadro P2000"], {"tensorflow": "2.13"}),
    )
    uuid = "GPU-00000000-0000-4000-8000-000000000000"
    card: LockedCard = {"pci_address": "0000:01:00.0", "pci_id": "10de:1c30", "uuid": uuid}
    told = json.loads(lock.text({**made, "cards": [card]}))[lock.KEY]
    files = lock.files(made)
    pages = [
        "# A lock, line by line",
        "",
        MADE,
        "",
        "`locks/gpu1/stack.json` of a Quadro P2000 on Ubuntu 18.04, as `site.yml` writes it. `gpuhost lock show gpu1`",
        "sums it up in a few lines, `gpuhost lock diff OLD NEW` says in sentences how two locks differ, and",
        "`gpuhost lock check` checks locks: their schema, their hashes, and whether their parts agree. Why it is done",
        "this way:",
        "[../decisions/0018-closed-lock.md](../decisions/0018-closed-lock.md).",
        "",
        "| key | example | meaning |",
        "|---|---|---|",
        *(f"| `{place}` | {shown} | {meaning(place)} |" for place, shown in places(told)),
        *(f"| `pylocks.{name}` | `{sha256[:12]}…` | {part_of(name)} |" for name, sha256 in told["pylocks"].items()),
        "",
        "## The files beside it",
        "",
        "Each is a lock file as PEP 751 defines it. It lists each package's file by name, size and sha256, without a",
        "URL: the file comes from whatever index pip is configured for. The lock file's own name ends with the first",
        "digits of its sha256.",
        f"`{min(files)}` begins so:",
        "",
        "```toml",
        *files[min(files)].splitlines()[:13],
        "```",
        "",
        "## Check locks before each commit",
        "",
        "```yaml",
        "# .pre-commit-config.yaml of the repository that has the locks",
        "- repo: local",
        "  hooks:",
        "    - id: gpuhost-lock",
        "      name: gpuhost lock check",
        "      entry: ./run gpuhost lock check",
        "      language: system",
        "      files: ^locks/.*\\.(json|json\\.new|toml)$",
        "```",
        "",
        "| exit code | meaning |",
        "|---|---|",
        "| 0 | every lock is complete, and has nothing that its schema does not allow |",
        "| 2 | no lock was named, or there is none |",
        "| 8 | a lock is damaged, of an earlier release, or lacks what its plan names; each is named |",
    ]
    return "\n".join(pages) + "\n"


def part_of(file: str) -> str:
    """What one of the files beside a lock holds."""
    return f"The packages of `{file.split('.')[1].rpartition('-')[0]}`."


def places(value: Json, path: str = "") -> Iterator[Tuple[str, str]]:
    """Every line of a lock by its place, with what stands there; of a list of rows the first."""
    for key, inner in value.items():
        here = f"{path}{key}"
        if key == "pylocks":
            yield here, ""
            continue
        rows = isinstance(inner, list) and bool(inner) and isinstance(inner[0], dict)
        inside = inner[0] if rows else inner
        if isinstance(inside, dict) and inside and here not in ("contents.pythons", "plan.tensorflow.code"):
            yield here, f"{len(inner)} row{'' if len(inner) == 1 else 's'}" if rows else ""
            yield from places(inside, f"{here}.")
        else:
            told = json.dumps(inner)
            yield here, f"`{told if len(told) <= 60 else told[:59] + '…'}`"


def meaning(place: str) -> str:
    """What a line says: by its place, or by its last word."""
    return LINES.get(place) or LINES[place.rpartition(".")[2]]


def main() -> int:
    """Write or check all."""
    parser = argparse.ArgumentParser(
        description="Write docs/reference/{rules,stacks,opencv-options,diagnoses,lock}.md, docs/troubleshooting.md and "
        "docs/architecture.md."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when one is out of date")
    check = parser.parse_args().check
    stale = []
    pages = {"rules": rules, "stacks": stacks, "opencv-options": opencv, "diagnoses": known_failures, "lock": lock_page}
    pages["../troubleshooting"] = troubleshooting
    pages["../architecture"] = architecture
    for name, text in ((f"{page}.md", write()) for page, write in pages.items()):
        file = FOLDER / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                file.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{'out of date' if check else 'written'}: {', '.join(stale) or 'none'}\n")
    return int(bool(stale) and check)


if __name__ == "__main__":
    sys.exit(main())
