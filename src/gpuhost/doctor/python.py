"""Ask a Python environment that the user names: what of TensorFlow, PyTorch and OpenCV it has, and what they can do.

Each question is a process of that Python, within a time and an amount of words.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Callable, Dict, List

from ..host import commands
from ..host.answer import read_answers
from ..text import printable
from ..types import Json

FRAMEWORKS = ("opencv", "tensorflow", "torch")
#: A first import of TensorFlow from a cold disk takes most of a minute; compiling PTX for a new card takes minutes.
LIMIT_S = 300.0
MOST = 4 << 20
KEPT_LINES, KEPT_CHARACTERS = 8, 300
TELLING = (
    "dynamic library",
    "dlopen",
    "Ignoring visible gpu",
    "CuDNN library",
    "driver version",
    "out of memory",
    "no kernel image",
    "failed call to cuInit",
    "CUDNN_STATUS",
    "CUDA_ERROR",
    "is not compatible with",
)
#: The code of this package lies in a folder or in a zip file; it comes last, behind the environment's own.
_START = (
    "import json, sys; sys.dont_write_bytecode = True; sys.path.append(sys.argv[1]); "
    "from gpuhost.host.probe.frameworks import main; sys.exit(main(json.loads(sys.argv[2])))"
)
Start = Callable[[str, Json], List[str]]


def start(python: str, arguments: Json) -> List[str]:
    """Return the command line that asks an environment, of which `frameworks` opens what a program there would see."""
    folder = Path(str(sys.modules["gpuhost"].__file__)).resolve().parents[1]
    return [python, "-I", "-B", "-c", _START, str(folder), json.dumps(arguments)]


def carried(programs: Json) -> Start:
    """Return the same for a doctor that was sent here, whose modules lie nowhere: by whole programs, one a question."""
    return lambda python, arguments: [python, "-I", "-B", "-c", str(programs[arguments["framework"] or ""])]


def asked(python: str, begin: Start = start, limit_s: float = LIMIT_S) -> Json:
    """Return what an environment says: `path`, `error` where it does not start, `python`, `prefix`, `packages`, and
    `frameworks`, by name what each says with `module` (its file), `error` and `said` (telling lines of its log).
    """
    found: Json = {"path": printable(python, KEPT_CHARACTERS), "error": None, "python": None, "frameworks": {}}
    look = answered(begin(python, {"framework": None}), limit_s)
    if look.get("modules") is None:
        return {**found, "error": look["error"] or "it gave no answer"}
    found.update({name: look[name] for name in ("python", "prefix", "packages")})
    for name in FRAMEWORKS:
        module = look["modules"].get(name)
        if module is not None:
            told = answered(begin(python, {"framework": name}), limit_s)
            if "version" not in told:
                told = {**dict.fromkeys(("version", "cuda", "cards")), "code": [], "libraries": [], **told}
            found["frameworks"][name] = {"module": module, **told}
    return found


def answered(argv: List[str], limit_s: float) -> Dict[str, Any]:
    """Return the answer of a process, with `error` and `said`."""
    try:
        code, out, err = commands.bounded(argv, limit_s, MOST)
    except subprocess.TimeoutExpired:
        return {"error": f"it gave no answer within {limit_s:g} s", "said": []}
    except commands.TooMuch:
        return {"error": "it printed without an end", "said": []}
    except OSError as error:
        return {"error": f"it cannot be started: {error.strerror}", "said": []}
    lines = [line for line in err.splitlines() if any(word in line for word in TELLING)]
    said = list(dict.fromkeys(printable(line, KEPT_CHARACTERS) for line in lines))[-KEPT_LINES:]
    answer = next(iter(read_answers(out)), None)
    if answer is None:
        ended = f"it was ended by signal {-code}" if code < 0 else f"it ended with status {code}"
        last = [line for line in err.splitlines() if line.strip()][-1:]
        words = printable(last[0], KEPT_CHARACTERS) if last else ""
        return {"error": ended + (f": {words}" if words else ""), "said": said}
    return {"error": None, **answer, "said": said}
