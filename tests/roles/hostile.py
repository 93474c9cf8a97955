"""A target that answers what it likes: stands where a host's Python should be and prints a prepared answer.

    hostile.py ANSWERS.json     with the module (AnsiballZ, or an async wrapper) on standard input or as a file

ANSWERS.json maps the name of a module to what it prints; "*" stands for every other module. Nothing that was sent is
run.
"""

import json
import re
import sys
from pathlib import Path


def main() -> None:
    """Find out which module was sent, and answer for it."""
    answers = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    sent = Path(sys.argv[2]).read_text(encoding="utf-8", errors="replace") if len(sys.argv) > 2 else sys.stdin.read()
    names = re.findall(r"gpuhost_[a-z]+(?:_[a-z]+)*", re.sub(r"[A-Za-z0-9+/=]{200,}", "", sent))
    name = next((name for name in names if name in answers), "*")
    answer = answers.get(name, {"changed": False})
    sys.stdout.write(answer if isinstance(answer, str) else json.dumps(answer))


main()
