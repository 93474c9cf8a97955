"""How a program that was sent to a target answers: marked lines of JSON on its output, kept free of all other
output.

Runs on the target: Python 3.6, standard library.
"""

import json
import os
from typing import Any, Callable, Dict

MARK = "gpuhost-answer: "


def channel() -> Callable[[Dict[str, Any]], None]:
    """A function that sends one answer. From now on everything else that this process prints goes to its
    error output.
    """
    out = os.dup(1)
    os.dup2(2, 1)

    def answer(value: Dict[str, Any]) -> None:
        data = (MARK + json.dumps(value, sort_keys=True) + "\n").encode("ascii")
        while data:
            data = data[os.write(out, data) :]

    return answer
