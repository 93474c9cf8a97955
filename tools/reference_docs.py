"""Write docs/reference/{rules,stacks,opencv-options,diagnoses}.md and docs/architecture.md from the code.

python tools/reference_docs.py           write them
python tools/reference_docs.py --check   only say which are out of date (exit 1)
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path
from typing import Dict, List, Tuple

from gpuhost.cvbuild import failures, options
from gpuhost.cvbuild.archs import Architectures
from gpuhost.diagnoses import table as diagnoses
from gpuhost.planning import plan
from gpuhost.planning.candidates import COMPONENTS, NAMES, Request
from gpuhost.planning.gpus import parse
from gpuhost.planning.resolve import resolver
from gpuhost.planning.rules.table import RULES
from gpuhost.planning.versions import specifier
from gpuhost.shipping import bundle
from gpuhost.types import Json

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "reference"
FAULTS, HEALED = ROOT / "tests/hosts/faults", ROOT / "tests/e2e/faults.json"
ELSEWHERE = ROOT / "tests/unit/elsewhere.json"
LOCKLESS = ROOT / "tests/hosts/found"
MADE = "Written by tools/reference_docs.py; do not edit."
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
)


def rules() -> str:
    """The table of the rules."""
    about = "A plan keeps every rule that matters for the host; a refusal names the ones that block it."
    lines = ["# The rules", "", MADE, "", about, ""]
    lines += ["| rule | about | what must hold | source |", "|---|---|---|---|"]
    for rule in RULES:
        about = " and ".join(NAMES[name] for name in rule.on)
        only = "" if rule.with_gpu else " (hosts without a GPU)"
        lines.append(f"| `{rule.id}` | {about} | {rule.title}{only} | {rule.source} |")
    return "\n".join(lines) + "\n"


def planned(platform: str, cards: List[str], asked: Dict[str, str]) -> Json:
    """The plan of one row."""
    found = resolver()
    gpus = tuple(parse(found.catalog, card) for card in cards)
    return plan.make(found, Request(platform, gpus, {k: specifier(k, v) for k, v in asked.items()}, asked))


def stacks() -> str:
    """What some cards get."""
    about = "The same as `gpuhost plan --os PLATFORM --gpu CARD ...` prints."
    lines = ["# What some cards get", "", MADE, "", about, ""]
    lines += ["| platform | card | asked | driver | CUDA | cuDNN | OpenCV | TensorFlow |", "|---" * 8 + "|"]
    for platform, cards, asked in ASKED:
        made = planned(platform, cards, asked)
        who = " + ".join(f"{g['name']} ({g['compute_capability']})" for g in made["gpus"]) or "none"
        wish = ", ".join(f"{NAMES[k]} {v}" for k, v in asked.items())
        if made["status"] == "refused":
            why = "; ".join(f"`{r['rule']}`: {r['text']}, needs {r['needs']}" for r in made["reasons"])
            lines.append(f"| {platform} | {who} | {wish} | refused: {why} | | | | |")
            continue
        cells = [made[name]["version"] if made[name] else "" for name in COMPONENTS]
        if made["driver"]:
            cells[0] += f" ({made['driver'].get('package', '.run')})"
        cells[-1] += f" (Python {made['tensorflow']['python']})"
        lines.append(f"| {platform} | {who} | {wish} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def opencv() -> str:
    """OpenCV's configure options and the ids of what can go wrong."""
    about = "What `build/opencv_cmake.py --why` says for one machine. *full*: on in that profile only."
    lines = ["# Building OpenCV: options and errors", "", MADE, "", "## Options, in order", "", about, ""]
    lines += ["| option | dnn | origin | why | from OpenCV |", "|---" * 5 + "|"]
    made = {p: {o.name: o.value for o in options.options(example(p))} for p in options.PROFILES}
    for name, _, origin, reason, since in options.ROWS:
        value = made["dnn"].get(name, "")
        note = f" (*full*: {made['full'].get(name, 'all modules')})" if value != made["full"].get(name, "") else ""
        lines.append(f"| `{name}` | `{value}`{note} | {origin} | {reason} | {since} |")
    lines += ["", "`--option` may replace any of them but these:", ""]
    lines += [f"- `{name}`. {instead}" for name, instead in options.PROTECTED.items()]
    lines += ["", "## Errors", "", "| id | exit code | what it means |", "|---|---|---|"]
    lines += [f"| `{name}` | {kind.error.exit_code} | {kind.about} |" for name, kind in failures.KINDS.items()]
    return "\n".join(lines) + "\n"


def example(profile: str) -> options.Settings:
    """Settings whose places are words."""
    words = {f: f"<{f}>" for f in options.Settings._fields}
    own = {"opencv": "4.14.0", "archs": Architectures(["6.1"], []), "profile": profile, "modules": (), "nonfree": False}
    return options.Settings(**{**words, **own, "cpu": "AVX2", "more": (), "ccache": True})  # type: ignore[arg-type]


#: Why what verify/ names is not staged on an imitation host, but shown on described faults only.
NOT_STAGED = {
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
    "D43": "needs a driver at work, whose NVML refuses",
}


def known_failures() -> str:
    """Every diagnosis: its words, who gives it, and how that was shown."""
    faults = {
        file.stem: json.loads(file.read_text(encoding="utf-8"))
        for file in sorted([*FAULTS.glob("*.json"), *LOCKLESS.glob("*.json")])
    }
    record = json.loads(HEALED.read_text(encoding="utf-8"))
    shown = json.loads(ELSEWHERE.read_text(encoding="utf-8"))
    about = (
        "A failure that is known carries an id, to be searched for here. `verify/` gives it, and `gpuhost doctor` on a "
        "host without a lock."
    )
    lines = ["# Diagnoses", "", MADE, "", about, ""]
    lines += ["| id | what | cause | what mends it | given by |", "|---" * 5 + "|"]
    for one in diagnoses.BY_ID.values():
        given = [f"`{check}`" for check in dict.fromkeys(sign.check for sign in one.signs)]
        given += [where if " " in where else f"`{where}`" for where in one.elsewhere]
        who = f"nothing: {one.never}" if one.never else ", ".join(given)
        lines.append(f"| {one.id} | {one.title} | {one.cause} | {one.fix} | {who} |")
    about = (
        "*Described*: for how many hosts of `tests/hosts/faults` and, without a lock, of `tests/hosts/found` the id is "
        "reported and no other; the unit tests hold that. *Staged*: on an imitation host, by "
        "`tests/e2e/test_faults.py`, where the remedy, typed as printed, "
        f"turned it green ({record['made']}). *Elsewhere*: the test of the part that gives it."
    )
    lines += ["", "## How it was shown", "", about, ""]
    lines += ["| id | described | staged | seen red | healed | elsewhere |", "|---" * 6 + "|"]
    for one in diagnoses.BY_ID.values():
        hosts = sum(one.id in fault["fails"].values() for fault in faults.values())
        staged = [row for row in record["healed"] if row["diagnosis"] == one.id]
        where = "<br>".join(dict.fromkeys(f"`{row['check']}`" for row in staged)) or NOT_STAGED.get(one.id, "")
        named = dict.fromkeys(test.replace("tests/", "", 1) for test in shown.get(one.id, {}).values())
        tests = "<br>".join(f"`{test}`" for test in named)
        red = "yes" if hosts else "by its test" if not one.never else "it cannot happen"
        cells = [str(hosts or ""), where, red, "yes" if staged else "", tests]
        lines.append(f"| {one.id} | {' | '.join(cells)} |")
    lines += ["", "## What was staged", "", "| id | check | fault | remedy |", "|---" * 4 + "|"]
    for row in sorted(record["healed"], key=lambda row: row["diagnosis"]):
        remedy = row["remedy"].replace("|", r"\|")
        lines.append(f"| {row['diagnosis']} | `{row['check']}` | {row['fault']} | `{remedy}` |")
    return "\n".join(lines) + "\n"


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
        "## The way of an observation",
        "",
        "```",
        "   a host                                 the controller",
        "",
        "   host/probe  reads the machine ------>  shipping/answers     holds it against a schema",
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
        "Each imports only what stands below it; `bash .ci/run rooms` holds that. The arrows are the imports",
        "that there are; those of the ground floor, which every room may use, are left out.",
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
            listed = ", ".join(f"`{name}.py`" for name in layer.split(" : "))
            lines.append(f"| the ground floor: {listed} | what every room may use |")
            continue
        for file in sorted((package / layer).rglob("__init__.py"), key=lambda file: file.parent):
            lines.append(f"| `{file.parent.relative_to(package).as_posix()}/` | {first_paragraph(file)} |")
    return "\n".join(lines) + "\n"


def first_paragraph(path: Path) -> str:
    """Return the first paragraph of a module's docstring, on one line."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split())


def main() -> int:
    """Write or check all."""
    parser = argparse.ArgumentParser(
        description="Write docs/reference/{rules,stacks,opencv-options,diagnoses}.md and docs/architecture.md."
    )
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when one is out of date")
    check = parser.parse_args().check
    stale = []
    pages = {"rules": rules, "stacks": stacks, "opencv-options": opencv, "diagnoses": known_failures}
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
