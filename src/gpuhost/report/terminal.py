"""Plans, comparisons and errors as a person reads them in a terminal. Colours only where the output is one (rich)."""

from __future__ import annotations

from typing import Any, Dict, List

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ..planning.candidates import COMPONENTS, NAMES
from ..planning.words import came_from, cards, remark
from ..text import printable
from ..types import Json

#: No word or list of this project is longer; one of a host may be.
LONGEST = 4000
#: What is shown of a component that is left out by choice.
NOT_ASKED_FOR = "not asked for"


def shown(words: object) -> str:
    """Return words from data as a terminal may have them: no markup, no escape sequence, one line, and an end."""
    return escape(printable(words, LONGEST))


def show_plan(console: Console, plan: Json) -> None:
    """Print a plan or a refusal."""
    planned = plan["status"] == "planned"
    console.print(f"[bold]{shown(plan['platform'])}[/], {shown(cards(plan))}", highlight=False)
    if not plan["gpus"]:
        console.print(
            "[yellow]No GPU: this is the CPU stack. Nothing here proves or provides a GPU.[/]",
            highlight=False,
        )
    if planned:
        table = Table(box=None, pad_edge=False, header_style="bold")
        for title in ("component", "version", "from", ""):
            # A name or a version that is broken over two lines cannot be copied, however narrow the terminal.
            table.add_column(title, overflow="fold", no_wrap=title in ("component", "version"))
        for name in COMPONENTS:
            if plan[name]:
                table.add_row(
                    NAMES[name],
                    shown(plan[name]["version"]),
                    shown(came_from(name, plan[name])),
                    shown(remark(name, plan[name])),
                )
            elif name in plan["without"]:
                table.add_row(NAMES[name], "", NOT_ASKED_FOR, "")
        console.print(table)
    else:
        show_refusal(console, plan)
    for note in plan["notes"]:
        mark = "unverified" if note["unverified"] else "note"
        console.print(f"[dim]{mark} ({shown(note['about'])}):[/] {shown(note['text'])}", highlight=False)


def show_refusal(console: Console, plan: Json) -> None:
    """Print why there is no stack and what would do."""
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


def show_comparison(console: Console, comparison: Json) -> None:
    """Print two or more cards side by side."""
    columns: List[Dict[str, Any]] = comparison["cards"]
    table = Table(title=f"on {shown(comparison['platform'])}", show_lines=True, header_style="bold")
    table.add_column("")
    for column in columns:
        table.add_column(shown(cards(column["plan"])), overflow="fold")
    table.add_row("verdict", *[c["plan"]["status"] for c in columns])
    for name in COMPONENTS:
        cells = []
        for column in columns:
            part = column["plan"][name]
            if name not in column["limits"]:
                cells.append(NOT_ASKED_FOR)
                continue
            own = column["limits"][name]
            gets = f"[bold]{shown(part['version'])}[/] {shown(remark(name, part))}".rstrip() if part else "[red]none[/]"
            cells.append(f"{gets}\ncan: {shown(own['can'])}\ncannot: {shown(own['cannot'])}")
        table.add_row(NAMES[name], *cells)
    table.add_row(
        "why not",
        *["\n".join(shown(f"{r['text']}; needs: {r['needs']}") for r in c["plan"]["reasons"]) or "-" for c in columns],
    )
    console.print(table)
    for column in columns:
        for note in column["plan"]["notes"]:
            console.print(
                f"[dim]{'unverified' if note['unverified'] else 'note'}:[/] {shown(note['text'])}",
                highlight=False,
            )


def show_error(console: Console, message: str, next_step: str) -> None:
    """Print a failure: what is wrong, and what to do; commands below it.

    No line is broken, because a path or a command within it is copied; the terminal breaks what is too long for it.
    """
    told, *commands = f"{message} {next_step}".split("\n")
    console.print(f"[bold red]gpuhost:[/] {shown(told)}", highlight=False, soft_wrap=True)
    for command in commands:
        console.print(f"  {shown(command)}", highlight=False, soft_wrap=True)


def plan_text(plan: Json) -> str:
    """The same words without a terminal, for Ansible's messages."""
    console = Console(width=160, no_color=True, force_terminal=False)
    with console.capture() as captured:
        show_plan(console, plan)
    return captured.get().rstrip()
