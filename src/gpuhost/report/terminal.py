"""Plans, comparisons and errors as a person reads them in a terminal. Colours only where the output is one (rich)."""

from __future__ import annotations

import os
import sys
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..planning.candidates import COMPONENTS, NAMES
from ..planning.compare import Comparison
from ..planning.words import came_from, cards, remark
from ..shapes.lock import Plan
from ..text import printable

#: No word or list of this project is longer; one of a host may be.
LONGEST = 4000
#: What is shown of a component that is left out by choice.
NOT_ASKED_FOR = "not asked for"
#: Columns where the output is not a terminal: whatever reads it breaks its lines itself.
UNBROKEN = 10_000


def console(stderr: bool = False, unbroken: bool = False) -> Console:
    """Return what a command prints with: as wide as the terminal or as COLUMNS says, and else without line breaks."""
    stream = sys.stderr if stderr else sys.stdout
    measured = stream.isatty() or os.environ.get("COLUMNS")
    return Console(stderr=stderr, width=None if measured and not unbroken else UNBROKEN)


def shown(words: object) -> str:
    """Return words from data as a terminal may have them: no markup, no escape sequence, one line, and an end."""
    return escape(printable(words, LONGEST))


def table(markdown: bool, **options: Any) -> Table:
    """Return an empty table for a terminal, or as Markdown."""
    return Table(**{**options, "box": box.MARKDOWN, "show_lines": False, "pad_edge": True} if markdown else options)


def cell(markdown: bool, *rows: str) -> str:
    """Return the lines of a cell; Markdown knows no line breaks in one, and takes a bar for its end."""
    found = [row for row in rows if row]
    return "<br>".join(found).replace("|", r"\|") if markdown else "\n".join(found)


def show_plan(console: Console, plan: Plan, markdown: bool = False) -> None:
    """Print a plan or a refusal."""
    planned = plan["status"] == "planned"
    console.print(f"[bold]{shown(plan['platform'])}[/], {shown(cards(plan))}", highlight=False)
    if not plan["gpus"]:
        console.print(
            "[yellow]No GPU: this is the CPU stack. Nothing here proves or provides a GPU.[/]",
            highlight=False,
        )
    if planned:
        rows = table(markdown, box=None, pad_edge=False, header_style="bold")
        for title in ("component", "version", "from"):
            # A name or a version that is broken over two lines cannot be copied, however narrow the terminal.
            rows.add_column(title, overflow="fold", no_wrap=title != "from")
        for name in COMPONENTS:
            part = plan[name]
            if part:
                texts = [shown(text(name, part)) for text in (came_from, remark)]
                rows.add_row(NAMES[name], shown(part["version"]), cell(markdown, *texts))
            elif name in plan["without"]:
                rows.add_row(NAMES[name], "", NOT_ASKED_FOR)
        console.print(rows)
    else:
        show_refusal(console, plan)
    for note in plan["notes"]:
        mark = "unverified" if note["unverified"] else "note"
        console.print(f"[dim]{mark} ({shown(note['about'])}):[/] {shown(note['text'])}", highlight=False)


def show_refusal(console: Console, plan: Plan) -> None:
    """Print why there is no stack and what would help."""
    console.print("[bold red]refused[/]: no stack keeps all the rules", highlight=False)
    for reason in plan["reasons"]:
        console.print(
            f"  [red]{shown(reason['rule'])}[/]: {shown(reason['text'])}; needs: {shown(reason['needs'])}",
            highlight=False,
        )
    if plan["card_needs"]:
        needs = "; ".join(f"{NAMES[n]} {v}" for n, v in plan["card_needs"].items())
        console.print(f"the card itself can use: {shown(needs)}", highlight=False)
    for row in plan["obstacles"]:
        only = "Only" if len(plan["obstacles"]) == 1 else "By itself"
        text = f"{only} {NAMES[row['component']]} stands in the way; left out, there would be {row['gives']}"
        console.print(f"  {shown(text)}:", highlight=False)
        console.print(f"    [bold]{shown(row['command'])}[/]", highlight=False, soft_wrap=True)
    for change in plan["nearest"]:
        console.print(f"  would do: {shown(change['change'])} ({shown(change['gives'])})", highlight=False)


def show_comparison(console: Console, comparison: Comparison, markdown: bool = False) -> None:
    """Print two or more cards side by side."""
    columns = comparison["cards"]
    console.print(f"on [bold]{shown(comparison['platform'])}[/]", highlight=False)
    rows = table(markdown, show_lines=True, header_style="bold")
    rows.add_column("")
    for column in columns:
        rows.add_column(shown(cards(column["plan"])), overflow="fold")
    rows.add_row("verdict", *[c["plan"]["status"] for c in columns])
    for name in COMPONENTS:
        cells = []
        for column in columns:
            part = column["plan"][name]
            if name not in column["limits"]:
                cells.append(NOT_ASKED_FOR)
                continue
            own = column["limits"][name]
            gets = f"[bold]{shown(part['version'])}[/] {shown(remark(name, part))}".rstrip() if part else "[red]none[/]"
            cells.append(cell(markdown, gets, f"can: {shown(own['can'])}", f"cannot: {shown(own['cannot'])}"))
        rows.add_row(NAMES[name], *cells)
    why = [[shown(f"{reason['text']}; needs: {reason['needs']}") for reason in c["plan"]["reasons"]] for c in columns]
    rows.add_row("why not", *[cell(markdown, *reasons) or "-" for reasons in why])
    console.print(rows)
    notes = [(note["unverified"], note["text"]) for column in columns for note in column["plan"]["notes"]]
    for unverified, text in dict.fromkeys(notes):
        console.print(f"[dim]{'unverified' if unverified else 'note'}:[/] {shown(text)}", highlight=False)


def show_error(console: Console, message: str, next_step: str) -> None:
    """Print a failure: what is wrong, and what to do; commands below it.

    No line is broken, because a path or a command within it is copied; the terminal breaks what is too long for it.
    """
    told, *commands = f"{message} {next_step}".split("\n")
    console.print(f"[bold red]gpuhost:[/] {shown(told)}", highlight=False, soft_wrap=True)
    for command in commands:
        console.print(f"  {shown(command)}", highlight=False, soft_wrap=True)


def plan_text(plan: Plan) -> str:
    """The same words without a terminal, for Ansible's messages."""
    console = Console(width=160, no_color=True, force_terminal=False)
    with console.capture() as captured:
        show_plan(console, plan)
    return captured.get().rstrip()
