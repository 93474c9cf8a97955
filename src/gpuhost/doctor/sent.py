"""The doctor as a program that was sent to a host: it answers with its report and leaves the words to whoever asked."""

from ..host.answer import channel
from ..types import Json
from . import bundle, judge
from .collect import collect


def main(arguments: Json) -> int:
    """Answer with the report, and with the bundle's text where `arguments["bundle"]` asks for it.

    `arguments["releases"]` is what `run.releases` reads where there is a package to read it from.
    """
    answer = channel()
    seen = collect(arguments["releases"])
    report = judge.report(seen)
    answer({"report": report, "bundle": bundle.text(report, seen) if arguments["bundle"] else None})
    return 0
