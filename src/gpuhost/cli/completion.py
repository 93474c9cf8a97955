"""`gpuhost completion` and `gpuhost manual`: what a shell and man need, made from the grammar of the commands."""

from __future__ import annotations

import argparse
import shlex
import sys
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .. import __version__

#: Completes `gpuhost` as a command, and behind ./run; elsewhere files.
_SCRIPT = """\
# bash; in zsh after: autoload -U bashcompinit && bashcompinit
_gpuhost() {
    local at=1 path= words= previous=${COMP_WORDS[COMP_CWORD-1]} word
    if [ "${COMP_WORDS[0]##*/}" = run ]; then
        if [ "$COMP_CWORD" -gt 1 ] && [ "${COMP_WORDS[1]}" != gpuhost ]; then return; fi
        at=2
    fi
    if [ "$COMP_CWORD" -lt "$at" ]; then
        words=gpuhost
    else
        for word in "${COMP_WORDS[@]:at:COMP_CWORD-at}"; do
            case "$path $word" in %(paths)s) path="$path $word" ;; esac
        done
        case "$path $previous" in
%(values)s
            *) case "$path" in
%(words)s
            esac ;;
        esac
    fi
    COMPREPLY=($(compgen -W "$words" -- "${COMP_WORDS[COMP_CWORD]}"))
}
complete -o default -F _gpuhost gpuhost run
"""


def add_parsers(commands: Any, grammar: Callable[[], argparse.ArgumentParser]) -> None:
    """The grammar of both commands; `grammar` gives the whole."""
    p = commands.add_parser("completion", help="print what makes bash complete gpuhost, to be sourced")
    p.set_defaults(run=lambda _: sys.stdout.write(script(grammar())) and None)
    p = commands.add_parser("manual", help="print the manual page: gpuhost manual | man -l -")
    p.set_defaults(run=lambda _: sys.stdout.write(manual(grammar())) and None)


def every(parser: argparse.ArgumentParser, path: Tuple[str, ...] = ()) -> Iterator[Tuple[Tuple[str, ...], Any]]:
    """Give each command's words with its parser, the whole first."""
    yield path, parser
    for name, inner in subcommands(parser).items():
        yield from every(inner, (*path, name))


def subcommands(parser: argparse.ArgumentParser) -> Dict[str, Any]:
    """Return the parsers of the commands below one, by name."""
    found = [action.choices for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0]) if found else {}


def options(parser: argparse.ArgumentParser) -> List[argparse.Action]:
    """Return what a command takes and shows in its help, without the commands below it."""
    hidden = argparse.SUPPRESS
    return [a for a in parser._actions if not isinstance(a, argparse._SubParsersAction) and a.help != hidden]


def script(parser: argparse.ArgumentParser) -> str:
    """Return the script for bash."""
    found, values, words = [], [], []
    for path, inner in every(parser):
        name = "".join(f" {word}" for word in path)
        found += [shlex.quote(name)] if path else []
        named = [option for action in options(inner) for option in action.option_strings if option.startswith("--")]
        words.append(
            f"                {shlex.quote(name)}) words={shlex.quote(' '.join([*subcommands(inner), *named]))} ;;"
        )
        for action in options(inner):
            if action.choices and action.option_strings:
                patterns = "|".join(shlex.quote(f"{name} {option}") for option in action.option_strings)
                values.append(f"            {patterns}) words={shlex.quote(' '.join(map(str, action.choices)))} ;;")
    return _SCRIPT % {"paths": "|".join(found), "values": "\n".join(values), "words": "\n".join(words)}


def manual(parser: argparse.ArgumentParser) -> str:
    """Return the manual page, in the language of man(7)."""
    lines = [
        f'.TH GPUHOST 1 "" "gpuhost {__version__}"',
        ".SH NAME",
        "gpuhost \\- a lockfile for GPU hosts",
        ".SH COMMANDS",
    ]
    for path, inner in every(parser):
        lines += [f".SS {roff(' '.join(['gpuhost', *path]))}"]
        lines += [roff(inner.description)] if inner.description else []
        for action in options(inner):
            taken = action.metavar or (action.dest if not action.option_strings or action.nargs != 0 else "")
            taken = " ".join(taken) if isinstance(taken, tuple) else str(taken)
            shown = ", ".join(action.option_strings)
            told = (action.help or "") % {**vars(action), "prog": inner.prog}
            lines += [".TP", roff(f"{shown} {taken if action.nargs != 0 else ''}".strip()), roff(told)]
        lines += [".PP", roff(inner.epilog)] if inner.epilog else []
    lines += [".SH SEE ALSO", "README.md and docs/ of the repository, for the plays and pytest verify/."]
    return "\n".join(lines) + "\n"


def roff(text: str) -> str:
    """Return a text as one line that man takes for text: no request, no escape."""
    line = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}"
