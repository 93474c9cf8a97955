"""Every rule has a source, refuses somebody and lets somebody pass; no rule names a card or a version."""

from __future__ import annotations

import ast
import copy
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest

import gpuhost
from gpuhost.gpucode import target_for
from gpuhost.planning import plan
from gpuhost.planning.candidates import COMPONENTS
from gpuhost.planning.catalog import Catalog, shipped
from gpuhost.planning.resolve import Resolver
from gpuhost.planning.rules.table import RULES

from . import asking, independent

FACTS = independent.read()
UBUNTU, DEBIAN = "ubuntu-18.04", "debian-12"
Asked = Tuple[Tuple[str, ...], Dict[str, Any]]


def ask(*cards: str, **rest: Any) -> Asked:
    """A request of the table below."""
    return cards, rest


#: Rule -> a request that it refuses (among others), and a near one that is planned.
REACHED: Dict[str, Tuple[Asked, Asked]] = {
    "asked-driver": (ask(UBUNTU, "P2000", driver="390"), ask(UBUNTU, "P2000", driver="418")),
    "asked-cuda": (ask(UBUNTU, "P2000", cuda="13"), ask(UBUNTU, "P2000", cuda="11.2")),
    "asked-cudnn": (ask(UBUNTU, "P2000", cudnn="<7"), ask(UBUNTU, "P2000", cudnn="8.9")),
    "asked-opencv": (ask(UBUNTU, "P2000", opencv=">5"), ask(UBUNTU, "P2000", opencv=">=4.8,<4.9")),
    "asked-tensorflow": (ask(UBUNTU, tensorflow=">=2.14"), ask(UBUNTU, tensorflow="<2.10")),
    "driver-generation": (ask(UBUNTU, "K80", "RTX 4090"), ask(UBUNTU, "K80", "RTX 3090", cuda="11.2")),
    "driver-claims": (ask(UBUNTU, "H200", driver="525"), ask(UBUNTU, "H100", driver="525")),
    "driver-flavour": (ask(DEBIAN, "RTX 5090", "P2000"), ask(DEBIAN, "RTX 4090", "P2000")),
    "driver-kernel": (ask(UBUNTU, "P2000", kernel="3.2.0"), ask(UBUNTU, "P2000", kernel="3.10.0")),
    "driver-toolkit": (ask(UBUNTU, "P2000", driver="390"), ask(UBUNTU, "P2000", driver="450", cuda="11.8")),
    "driver-jit": (
        ask(UBUNTU, "RTX 3090", tensorflow="2.13", driver="470"),
        ask(UBUNTU, "P2000", tensorflow="2.13", driver="470"),
    ),
    "cuda-platform": (ask(UBUNTU, "RTX 5090"), ask(UBUNTU, "RTX 4090")),
    "cuda-builds": (ask(DEBIAN, "RTX 5090", cuda="12.5"), ask(DEBIAN, "RTX 5090", cuda="12.9")),
    "cuda-wheels": (
        ask(DEBIAN, "RTX 3090", cuda="13", tensorflow="2.15"),
        ask(DEBIAN, "RTX 3090", cuda="13", tensorflow="2.21"),
    ),
    "cuda-reach": (ask(DEBIAN, "RTX 5090", cuda="13"), ask(DEBIAN, "RTX 4090", cuda="13")),
    "cudnn-wheels": (
        ask(DEBIAN, "RTX 3090", cuda="13", tensorflow="2.14"),
        ask(DEBIAN, "RTX 3090", cuda="13", tensorflow="2.16"),
    ),
    "cuda-gcc": (ask(DEBIAN, "P2000", cuda="10.2"), ask(DEBIAN, "P2000", cuda="11.8")),
    "cuda-files": (
        ask(DEBIAN, "RTX 5090", cuda="13.1", without=("tensorflow",)),
        ask(DEBIAN, "RTX 5090", cuda="13.0", without=("tensorflow",)),
    ),
    "cudnn-files": (
        ask(DEBIAN, "RTX 5090", cuda="13", cudnn="9.20", without=("tensorflow",)),
        ask(DEBIAN, "RTX 5090", cuda="13", cudnn="9.13.1", without=("tensorflow",)),
    ),
    "cudnn-cards": (ask(DEBIAN, "K80"), ask(UBUNTU, "K80")),
    "cudnn-cuda": (
        ask(UBUNTU, "P2000", tensorflow="2.0", cudnn="7.6.3"),
        ask(UBUNTU, "P2000", tensorflow="2.1", cudnn="7.6.3"),
    ),
    "tensorflow-code": (ask(UBUNTU, "GTX 750 Ti", tensorflow="2.3"), ask(UBUNTU, "P2000", tensorflow="2.3")),
    "tensorflow-python": (ask(DEBIAN, "P2000", tensorflow="2.13"), ask(UBUNTU, "P2000", tensorflow="2.13")),
    "tensorflow-avx": (ask(UBUNTU, avx=False), ask(UBUNTU, avx=True)),
    "tensorflow-cuda": (
        ask(UBUNTU, "P2000", tensorflow="2.11", cuda="11.8"),
        ask(UBUNTU, "P2000", tensorflow="2.11", cuda="11.2"),
    ),
    "tensorflow-cudnn": (
        ask(UBUNTU, "P2000", tensorflow="2.11", cudnn="8.0"),
        ask(UBUNTU, "P2000", tensorflow="2.11", cudnn="8.5"),
    ),
    "opencv-darknet": (ask(UBUNTU, "P2000", opencv="5"), ask(UBUNTU, "P2000", opencv="4.12")),
    "opencv-floor": (
        ask(UBUNTU, "GTX 750 Ti", opencv="4.2"),
        ask(UBUNTU, "P2000", opencv="4.2", tensorflow="2.0"),
    ),
    "opencv-sources": (ask(UBUNTU, "P2000", opencv="4.3.0"), ask(UBUNTU, "P2000", opencv="4.4.0")),
    "opencv-wheel": (ask(UBUNTU, opencv="4.1"), ask(UBUNTU, opencv="4.12")),
    "opencv-cuda": (
        ask(DEBIAN, "P2000", opencv="4.7", cuda="12.3"),
        ask(DEBIAN, "P2000", opencv="4.9", cuda="12.3"),
    ),
    "opencv-cudnn": (
        ask(UBUNTU, "P2000", opencv="4.4", tensorflow="2.4", cudnn="8.1"),
        ask(UBUNTU, "P2000", opencv="4.4", tensorflow="2.4", cudnn="8.0"),
    ),
}


def without_runfiles(catalog: Catalog) -> Catalog:
    """The catalog with no `.run` release: every archive version also exists as one, which hides the
    archive's rule."""
    drivers = copy.deepcopy(catalog.drivers)
    drivers["runfiles"] = []
    return replace(catalog, drivers=drivers)


def older_glibc(catalog: Catalog) -> Catalog:
    """The catalog with an 18.04 of glibc 2.11: the real one is new enough for every wheel."""
    platforms = copy.deepcopy(catalog.platforms)
    platforms["platforms"][UBUNTU]["glibc"] = "2.11"
    return replace(catalog, platforms=platforms)


def without_build_tools(catalog: Catalog) -> Catalog:
    """The catalog of a release with no locked tools that build OpenCV for 18.04's Pythons."""
    kept = frozenset(name for name in catalog.environments if not re.fullmatch("opencv_build-.*-cp3[678]", name))
    return replace(catalog, environments=kept)


#: Rules that the shipped catalog has no use for yet, on a catalog where they have.
REACHED_ON: Dict[str, Tuple[Callable[[Catalog], Catalog], Asked, Asked]] = {
    "driver-archive": (
        without_runfiles,
        ask(DEBIAN, "P2000", driver="525.105.17"),
        ask(UBUNTU, "P2000", driver="525.105.17"),
    ),
    "opencv-tools": (without_build_tools, ask(UBUNTU, "P2000"), ask(DEBIAN, "P2000")),
    "tensorflow-glibc": (older_glibc, ask(UBUNTU), ask(DEBIAN)),
}


def made(asked: Asked, resolver: Optional[Resolver] = None) -> Dict[str, Any]:
    """The plan of a row."""
    (platform, *cards), rest = asked
    request = asking.request(platform, *cards, **rest)
    return plan.make(resolver or asking.resolver(), request)


def test_every_rule_is_in_the_tables() -> None:
    """No rule is without its two requests, and ids are told apart."""
    assert len({r.id for r in RULES}) == len(RULES)
    assert {r.id for r in RULES} == set(REACHED) | set(REACHED_ON)


@pytest.mark.parametrize("rule", RULES, ids=lambda r: r.id)
def test_rule_says_what_it_is(rule: Any) -> None:
    """A rule has a title and a source, filters known components, and is about one or about a pair."""
    assert rule.title.strip()
    assert rule.source.strip()
    assert set(rule.on) <= set(COMPONENTS)
    assert (len(rule.on), rule.unary is None, rule.binary is None) in ((1, False, True), (2, True, False))
    assert rule.with_gpu or rule.without_gpu
    assert rule.on[0] == rule.id.partition("-")[0] or rule.id == f"asked-{rule.on[0]}"


@pytest.mark.parametrize("identity", REACHED)
def test_rule_refuses_and_lets_pass(identity: str) -> None:
    """A request is refused with this rule among the reasons, and a near one is planned."""
    refused, planned = REACHED[identity]
    verdict = made(refused)
    assert verdict["status"] == "refused"
    assert identity in [reason["rule"] for reason in verdict["reasons"]]
    assert made(planned)["status"] == "planned"


@pytest.mark.parametrize("identity", REACHED_ON)
def test_rule_refuses_on_another_catalog(identity: str) -> None:
    """The same for the rules that the shipped catalog cannot show."""
    change, refused, planned = REACHED_ON[identity]
    resolver = Resolver(change(shipped()))
    verdict = made(refused, resolver)
    assert verdict["status"] == "refused"
    assert identity in [reason["rule"] for reason in verdict["reasons"]]
    assert made(planned, resolver)["status"] == "planned"


SERIES = sorted({row["series"] for row in FACTS["tensorflow"]["releases"]}, key=independent.figures)


@pytest.mark.parametrize("series", SERIES)
def test_every_series_is_reached_and_refused(series: str) -> None:
    """Each TensorFlow is what some host gets, and another host is refused it for the reason meant: its
    Python."""
    here, there = (UBUNTU, DEBIAN) if independent.figures(series) <= (2, 13) else (DEBIAN, UBUNTU)
    found = asking.planned(here, "Quadro P2000", tensorflow=series)
    assert found["status"] == "planned"
    assert independent.starts(found["tensorflow"]["version"], series)
    refused = asking.planned(there, "Quadro P2000", tensorflow=series)
    rules = {reason["rule"] for reason in refused["reasons"]}
    assert refused["status"] == "refused"
    assert "tensorflow-python" in rules
    assert rules <= {"asked-tensorflow", "tensorflow-python", "tensorflow-glibc"}


PACKAGE = Path(gpuhost.__file__).parent
SOURCES = [PACKAGE / "gpucode.py", *(PACKAGE / "planning" / f"{name}.py" for name in ("resolve", "explain"))]
SOURCES += sorted((PACKAGE / "planning" / "rules").glob("*.py"))


def literals(tree: ast.AST) -> Iterator[Tuple[int, str]]:
    """Every string of a module that is not a docstring, and not the source of a `Rule` (its fourth value)."""
    left_out = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)) and ast.get_docstring(node):
            left_out.add(node.body[0].value)  # type: ignore[attr-defined]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Rule":
            left_out.update(node.args[3:4])
            left_out.update(k.value for k in node.keywords if k.arg == "source")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in left_out:
            yield node.lineno, node.value


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: p.stem)
def test_no_rule_names_a_card_or_a_version(path: Path) -> None:
    """Cards, chips, generations, platforms and dotted versions stand in the catalog, never in the code
    that decides."""
    gpus = FACTS["gpus"]
    names = {row["name"].casefold() for row in gpus["devices"].values() if row["name"]}
    names |= {chip.casefold() for chip in [*gpus["chips"], *gpus["integrated_chips"]]}
    names |= {row["name"].casefold() for row in gpus["generations"]}
    names |= set(FACTS["platforms"]["platforms"]) | set(gpus["devices"])
    found: List[Tuple[int, str]] = []
    for line, text in literals(ast.parse(path.read_text("utf-8"))):
        words = set(re.findall(r"[a-z0-9.-]+", text.casefold()))
        if text.casefold() in names or words & names or re.search(r"\d+\.\d+", text):
            found.append((line, text))
    assert found == []


def test_no_rule_compares_with_a_figure() -> None:
    """Nor as a number: no float stands in that code, and no integer that could be a branch."""
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)):
                assert not isinstance(node.value, float), (path.name, node.lineno)
                assert node.value <= 17, (path.name, node.lineno)  # manylinux2014 is glibc 2.17


def test_code_is_built_for_cards() -> None:
    """Whatever toolkit meets whatever card: the target is a card's capability, of its major version, not
    above it."""
    integrated = [chip["compute_capability"] for chip in FACTS["gpus"]["integrated_chips"].values()]
    cards = independent.of_cards(FACTS)
    for toolkit in FACTS["cuda"]["releases"]:
        for card in cards:
            target = target_for(card, toolkit["capabilities"], integrated)
            code = [f"sm_{cc.replace('.', '')}" for cc in toolkit["capabilities"] if cc in cards]
            assert (target is not None) == (independent.runs(code, card) == "cubin"), (
                toolkit["version"],
                card,
            )
            assert target is None or target in cards, (toolkit["version"], card, target)
