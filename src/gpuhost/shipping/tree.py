"""The files of this package that a target needs to run the detector, the service, the watch, the judge of updates or
the builder, as text by path.
"""

from __future__ import annotations

import hashlib
import json
from functools import partial
from typing import Any, Callable, Dict, Optional

from .. import __version__
from ..diagnoses import table
from ..diagnoses.base import always
from ..errors import UsageError
from ..host.pairs import install as pairs_install
from ..host.watch.install import LAUNCHER
from ..planning import recipes
from ..shapes.lock import Lock
from ..types import Json
from . import bundle

#: What the detector reads beside its modules.
YOLO_DATA = "data/yolo.json"

#: Run with -I, so that no environment variable and no folder of a user's is read; its own folder it adds itself.
_LAUNCHER = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from gpuhost.host.{room}.run import main

sys.exit(main(sys.argv[1:]))
"""
#: The same for the service. Its keys are made by the system's Python, which may be 3.6; all else needs 3.8.
SERVICE_LAUNCHER = "gpuhost-service.py"
_SERVICE = """\
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
if sys.argv[1:2] == ["keys"]:
    from gpuhost.host.service.keys import main
    sys.argv.pop(1)
else:
    from gpuhost.service.run import main

sys.exit(main(sys.argv[1:]))
"""
#: Which diagnosis stands at which check, for the service's /readyz.
DIAGNOSES = "gpuhost/service/diagnoses.json"
KEYS = "host.service.keys"


def program(name: str, lock: Optional[Lock] = None) -> Dict[str, Any]:
    """Return one of the programs as the module gpuhost_tree takes it: `name` in the store, `files` and `digest`.

    `lock` is that of the host that builds; only the builder needs it.
    """
    programs: Dict[str, Callable[[], Dict[str, Any]]] = {
        "yolo": yolo,
        "watch": watch,
        "pairs": pairs,
        "service": service,
    }
    if lock:
        programs["opencv-builder"] = partial(opencv, lock)
    if name not in programs:
        step = f"Write one of: {', '.join(programs)}; opencv-builder needs a lock."
        raise UsageError(f"There is no program {name!r}.", step)
    found = programs[name]()
    return {
        "name": f"{name}-{found['version']}-{found['digest']}",
        "files": found["files"],
        "digest": found["digest"],
    }


def yolo() -> Dict[str, Any]:
    """The detector, as `described` tells it."""
    files = bundle.files(*bundle.modules("yolo"), "yolo.__main__")
    return described({**files, f"gpuhost/{YOLO_DATA}": (bundle.PACKAGE / YOLO_DATA).read_text(encoding="utf-8")})


def watch() -> Dict[str, Any]:
    """The watch's program with the modules that it needs, as `described` tells it."""
    return described({**bundle.files("host.watch.run"), LAUNCHER: _LAUNCHER.format(room="watch")})


def pairs() -> Dict[str, Any]:
    """The program that judges an update at the boot that tries it, and its deadline, as `described` tells it."""
    own = {pairs_install.LAUNCHER: _LAUNCHER.format(room="pairs"), pairs_install.SCRIPT: pairs_install.SCRIPT_TEXT}
    return described({**bundle.files("host.pairs.run"), **own})


def service() -> Dict[str, Any]:
    """The detection service with the detector, the program that makes its keys, and the table of diagnoses."""
    files = bundle.files(*bundle.modules("service"), *bundle.modules("yolo"), KEYS)
    files[f"gpuhost/{YOLO_DATA}"] = (bundle.PACKAGE / YOLO_DATA).read_text(encoding="utf-8")
    files[DIAGNOSES] = json.dumps(diagnoses(), indent=1, sort_keys=True) + "\n"
    return described({**files, SERVICE_LAUNCHER: _SERVICE})


def diagnoses() -> Json:
    """Return the diagnoses as the service tells them: by id, and which one a failed check points to by itself.

    A check whose causes only a closer look tells apart points to none.
    """
    checks: Json = {}
    for one in table.TABLE:
        for sign in one.signs:
            checks.setdefault(sign.check, []).append((one.id, sign.seen is always))
    pointing = {
        check: [name for name, sure in found if sure or len(found) == 1][:1] for check, found in sorted(checks.items())
    }
    rows = {
        name: {"title": one.title, "fix": one.fix, "messages": list(one.messages)} for name, one in table.BY_ID.items()
    }
    return {"schema": 1, "checks": {check: found[0] for check, found in pointing.items() if found}, "diagnoses": rows}


def opencv(lock: Lock) -> Dict[str, Any]:
    """The builder with a host's recipe, as `described` tells it; the catalog stays here."""
    recipe = recipes.of_lock(lock).as_json()
    content = json.dumps(recipe, indent=1, sort_keys=True) + "\n"
    return described({**bundle.files(*bundle.modules("cvbuild")), "recipe.json": content})


def described(files: Dict[str, str]) -> Dict[str, Any]:
    """`files`: path below the tree -> content; `digest`: 12 hex digits over all of it; `version`: the package's."""
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()[:12]
    return {"files": files, "digest": digest, "version": __version__}
