"""Plain English in what people read: documentation, texts of the program, docstrings and comments.

`WORDING` is a table of phrases that read as translated, each with what to write instead. Add a row rather than an
exception: a phrase that is right in one place is excluded in its pattern.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from pathlib import Path
from typing import Iterator, List, Tuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUESTION = r"(?:Has|Have|Had|Is|Are|Was|Were|Does|Do|Did|Can|Could|May|Might|Must|Should|Will|Would)"
#: What to look for, and what to write instead. Line ends count as blanks.
WORDING: Tuple[Tuple[str, str], ...] = (
    # In a docstring or a comment that begins so.
    (rf'(?:^|"""|# ){QUESTION}\b(?:(?!\. )[^"?]){{1,150}}\?', "an imperative: Return whether ..."),
    (r"\b[Tt]he originals?\b(?:'s)?", "the reference setup, build or loop (docs/why.md)"),
    (r"\b(?:held|hold|holds) (?:it |them )?against\b", "checked against, compared with"),
    (r"\b(?:is|are|was|were) to go\b", "is removed, should go"),
    (r"\bhang(?:s|ing)? on (?:it|that|them|this|what|a |the )", "depends on"),
    (
        r"(?<!will )\b(?:is|are|was|were|be|being|been) told\b"
        r"(?! (?:apart|otherwise|to|not|that|what|how|who|whether)\b)",
        "reported, named, shown; of a cause: determined",
    ),
    (
        r"\b(?:is|are|was|were|be|it|stays?|once|when|as|for) whole\b(?! (?:numbers?|lines?|events)\b)|\bwhole ones?\b",
        "complete",
    ),
    (r"(?<![Tt]here )\b(?:is|are|was|were) no (?!longer\b|more\b|less\b|faster\b|better\b)(?=[a-z])", "is not a"),
    (r"\bfor want of\b", "for lack of, because there is no"),
    (r"\b[Ff]or whoever stands\b", "for whoever is on call"),
    (r"\b[Aa]s the measurement did it\b", "the reference loop"),
    (r"\b[Oo]ne verified fetch for all\b", "Download a file into a content-addressed cache, verifying its SHA-256"),
    (r"\bmay be another one a little later\b", "transient HTTP statuses, worth retrying"),
    (r"\bthe next one takes for (?:whole|complete)\b", "an interrupted run never looks complete"),
    (r"\b[Ww]ord from a long piece of work\b", "Progress for long-running work"),
    (r"\bhis (?:Python|7\.0)\b", "the environment's Python, a pasted 7.0"),
    (r"\b(?:Its|their) time is none\b|\bIt is none\b", "is missing or malformed"),
    (r"\bof an own\b|\ban own\b", "its own, a separate"),
    (r"\banother (?:one )?than\b", "other than, different from"),
    (r"\banew\b", "again; re- as in restart, rebuild, rewrite"),
    (r"(?<!`)\b[Mm]end(?:s|ed|ing)?\b", "fix, repair"),
    (r"\bat hand\b", "available"),
    (r"\b(?:ke(?:ep|pt)|keeps|gone|address|files?)\b[^.]{0,30} for good\b", "permanently"),
    (r"\bmade (?:hosts?|photos?|weights|observations?)\b", "synthetic, generated"),
    (r"\bpass(?:es|ed)? (?:it|them|these|the [a-z ]{2,30}) by\b", "skip, leave alone"),
    (r"\bputs? the [a-z]+ on\b(?! (?:a|the|hold|its)\b)", "install"),
    (r"\bhow\]\([^)]*\), \[why so\b|\b[Ww]hy it is (?:built )?so\b", "why it is done this way"),
    (r"\b(?:the|a) processor\b", "the CPU: one word for one thing"),
    (r"\b(?:said|told) to CMake\b", "given to CMake, passed"),
    (r"\b(?:what|that|which) (?:would|will) do\b(?=[,.;:)])", "would help, is accepted"),
    (r"\| \| \|---", "a heading for each column of a table"),
)
PATTERNS = [(re.compile(pattern), instead) for pattern, instead in WORDING]
#: Not ours to word, or no prose.
LEFT_OUT = re.compile(
    r"LICENSE|docs/reference/(?:stacks|opencv-build)\.md|tests/(?:data|field)/|tests/hosts/.*/"
    r"|src/gpuhost/data/(?:environments|wheels)/"
)


def listed(*patterns: str) -> List[Path]:
    """Return the files of this repository with such names, committed or new."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *patterns]
    names = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, check=True, text=True).stdout.split("\0")
    return [
        ROOT / name for name in sorted(set(names)) if name and not LEFT_OUT.search(name) and (ROOT / name).is_file()
    ]


def of_python(source: str) -> Iterator[Tuple[int, str]]:
    """Give the strings and the blocks of comments of a Python file, with their lines."""
    comment: List[str] = []
    begun = last = 0
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            if not comment or token.start[0] != last + 1:
                if comment:
                    yield begun, " ".join(comment)
                comment, begun = [], token.start[0]
            comment.append(token.string if not comment else token.string.lstrip("#: "))
            last = token.start[0]
        elif token.type == tokenize.STRING or tokenize.tok_name[token.type] == "FSTRING_MIDDLE":
            yield token.start[0], token.string
    if comment:
        yield begun, " ".join(comment)


def of_text(source: str) -> Iterator[Tuple[int, str]]:
    """Give the paragraphs of any other file, with the line that each begins at."""
    line = 1
    for paragraph in re.split(r"(\n\s*\n)", source):
        yield line, paragraph
        line += paragraph.count("\n")


def found(path: Path) -> List[str]:
    """Return what is worded badly in a file, with what to write instead."""
    source = path.read_text(encoding="utf-8")
    parts = of_python(source) if path.suffix == ".py" else of_text(source)
    wrong = []
    for line, text in parts:
        joined = re.sub(r"\s+(?:# ?)?", " ", text)
        for pattern, instead in PATTERNS:
            wrong += [
                f"{path.relative_to(ROOT)}:{line}: {match.group().strip()!r}: {instead}"
                for match in pattern.finditer(joined)
            ]
    return wrong


PROGRAM = listed("src/*.py", "plugins/*.py", "verify/*.py", "tools/*.py", "build/*.py", "tools/catalog/refresh")
TEXTS = listed(
    "*.md", "run", "site.yml", "playbooks/*.yml", "roles/*.yml", "roles/*.j2", "src/*.j2", "src/*.schema.json"
)


@pytest.mark.parametrize("path", [*PROGRAM, *TEXTS], ids=lambda path: str(path.relative_to(ROOT)))
def test_it_is_said_in_plain_words(path: Path) -> None:
    """No phrase of the table."""
    assert found(path) == []


def test_there_is_something_to_read() -> None:
    """A list that came out empty would let the test pass."""
    assert len(PROGRAM) > 250 and len(TEXTS) > 120


@pytest.mark.parametrize(
    ("text", "is_wrong"),
    [
        ('def f():\n    """Has nouveau the card?"""\n', True),
        ('def f():\n    """Return whether nouveau has the card."""\n', False),
        ('x = "The original\'s loop"\n', True),
        ("# What is held\n# against a lock.\n", True),
        ('x = f"{name} is no file"\n', True),
        ('x = "there is no file; it is no longer there"\n', False),
        ('x = "two causes that are told apart"\n', False),
        ('x = "each of them is told"\n', True),
        ("# The whole file, as a whole, in whole numbers.\n", False),
        ('x = "the file is whole"\n', True),
        ("original = told = whole\n", False),
    ],
)
def test_a_phrase_of_the_table_is_seen(
    text: str, is_wrong: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In docstrings, texts and comments, over line ends; names of the program are not looked at."""
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "x.py"
    file.write_text(text, encoding="utf-8")
    assert bool(found(file)) is is_wrong
