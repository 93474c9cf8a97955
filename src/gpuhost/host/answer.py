"""How a program that was sent to a target answers: marked lines of JSON on its output, kept free of all other
output.

Runs on the target: Python 3.6, standard library.
"""

import json
import os
import re
import select
import signal
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from .. import strict_json

MARK = "gpuhost-answer: "
#: How long a program whose answer nobody reads any more may take to end what it has started.
_GRACE_S = 5.0
#: Escapes as they are, or half of a surrogate pair, which stands for a byte of a file's name that is not UTF-8.
_ESCAPES = re.compile(r"(\\ud[89ab]..\\ud[c-f]..|\\[^u])|\\ud[89a-f]..")


def line(value: Dict[str, Any]) -> str:
    """Return an answer as one line of ASCII; a byte that is not UTF-8 becomes the replacement character."""
    text = _ESCAPES.sub(lambda found: found.group(1) or "\\ufffd", json.dumps(value, sort_keys=True))
    return f"{MARK}{text}\n"


def channel() -> Callable[[Dict[str, Any]], None]:
    """A function that sends one answer. From now on everything else that this process prints goes to its
    error output.
    """
    out = os.dup(1)
    os.dup2(2, 1)
    end_with_reader(out)

    def answer(value: Dict[str, Any]) -> None:
        data = line(value).encode("ascii")
        while data:
            data = data[os.write(out, data) :]

    return answer


def end_with_reader(descriptor: int) -> None:
    """Interrupt this process, as Ctrl-C does, as soon as nobody reads this output of it any more.

    Of a connection that has ended nothing else tells a program on a host, until it writes.
    """

    def wait() -> None:
        watched = select.poll()
        watched.register(descriptor, 0)  # only what is always told: an error, and the end of the reader
        if watched.poll()[0][1] & (select.POLLERR | select.POLLHUP):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(_GRACE_S)
            os._exit(128 + signal.SIGINT)  # in the middle of a long computation no signal is looked at

    threading.Thread(target=wait, daemon=True).start()


def read_answers(output: str) -> List[Dict[str, Any]]:
    """Return the JSON objects that a program gave on its output; whatever else was printed there is passed over."""
    found = []
    for said in output.splitlines():
        if said.startswith(MARK):
            value = read_object(said[len(MARK) :])
            if value is not None:
                found.append(value)
    return found


def read_object(text: str) -> Optional[Dict[str, Any]]:
    """Return the JSON object in a text; None when it is cut off, no object, or not strictly JSON."""
    try:
        value = strict_json.loads(text)
    except strict_json.StrictJsonError:
        return None
    return value if isinstance(value, dict) else None
