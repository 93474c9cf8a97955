"""Write docs/reference/{rules,stacks,opencv-options}.md from the code, so that no figure in them is typed by hand.

python tools/reference_docs.py           write them
python tools/reference_docs.py --check   only say which are out of date (exit 1)
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Dict, List, Tuple

from gpuhost import plan
from gpuhost.catalog import Json
from gpuhost.cvbuild import failures, options
from gpuhost.cvbuild.archs import Architectures
from gpuhost.gpu import parse
from gpuhost.model import COMPONENTS, NAMES, Request
from gpuhost.resolve import resolver
from gpuhost.rules import RULES
from gpuhost.versions import specifier

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "reference"
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


def main() -> int:
    """Write or check all."""
    parser = argparse.ArgumentParser(description="Write docs/reference/{rules,stacks,opencv-options}.md.")
    parser.add_argument("--check", action="store_true", help="change nothing; exit 1 when one is out of date")
    check = parser.parse_args().check
    stale = []
    for name, text in (("rules.md", rules()), ("stacks.md", stacks()), ("opencv-options.md", opencv())):
        file = FOLDER / name
        if not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
            if not check:
                file.write_text(text, encoding="utf-8")
    sys.stdout.write(f"{'out of date' if check else 'written'}: {', '.join(stale) or 'none'}\n")
    return int(bool(stale) and check)


if __name__ == "__main__":
    sys.exit(main())
