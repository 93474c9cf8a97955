"""The doctor as a program that was sent to a host: it answers with its report and leaves the words to whoever asked."""

from ..host.answer import channel
from ..types import Json
from . import bundle, judge, python
from .collect import collect


def main(arguments: Json) -> int:
    """Answer with the report, and with the bundle's text where `arguments["bundle"]` asks for it.

    `arguments["python"]` is the path of a Python to be judged as well, or None, and `programs` what asks it.
    `arguments["releases"]` is what `run.releases` reads where there is a package to read it from.
    """
    answer = channel()
    seen = collect(arguments["releases"])
    if arguments["python"] is not None:
        seen["python"] = python.asked(arguments["python"], python.carried(arguments["programs"]))
    report = judge.report(seen)
    answer({"report": report, "bundle": bundle.text(report, seen) if arguments["bundle"] else None})
    return 0
