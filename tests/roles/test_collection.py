"""The project as a collection: built, installed, and each role run alone from a foreign folder by its README's example.

The package gpuhost is not importable there, and no ansible.cfg of the project is found: what a role needs has to be in
the collection. Where a module can do nothing on this machine, a stand-in takes its place in the installed collection.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
from typing import Any, Dict, Iterable, List, Tuple

import collection
import pytest

from gpuhost.host import generations, store
from gpuhost.planning import lock
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

from ..foreign import Foreign
from ..locks import Json, of, save
from ..unit.test_virtualbox_plan import locked as with_virtualbox
from .conftest import ROOT, Result
from .test_gpu_stack import P2000
from .test_nvidia_driver import LOOK, MISSING, MODULE

pytestmark = pytest.mark.play

ROLES = sorted(path.parent.parent.name for path in (ROOT / "roles").glob("*/tasks/main.yml"))


# Stands in for the module that observes: this machine may have no card, and no kernel of its own.
FACTS = f"""#!/usr/bin/python
import json
from ansible.module_utils.basic import AnsibleModule

module = AnsibleModule({{"kernels": {{"type": "bool"}}}}, supports_check_mode=True)
module.exit_json(changed=False, observation=json.loads({json.dumps(P2000)!r}))
"""


def filters() -> Any:
    """The module of the filters, as it is in the checkout."""
    spec = importlib.util.spec_from_file_location("gpuhost_filters", ROOT / "plugins/filter/gpuhost.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """One folder for all."""
    return Foreign(tmp_path_factory.mktemp("foreign"))


def test_names_in_the_collection_are_full(foreign: Foreign) -> None:
    """A short name would be looked for where a collection has nothing."""
    names = "|".join(path.stem for kind in ("action", "modules") for path in collection.plugins(kind))
    for file in foreign.collection.glob("roles/*/*/*.yml"):
        text = file.read_text(encoding="utf-8")
        assert re.findall(rf"^ +(?:- )?(?:{names}):", text, re.M) == [], file
        assert re.findall(r"\|\s*gpuhost_\w+|_role:\n +name: \w+$", text, re.M) == [], file
    for file in foreign.collection.glob("plugins/*/*.py"):
        assert re.findall(r"^\s*(?:from|import) (?:ansible\.module_utils\.)?gpuhost\b.*", file.read_text(), re.M) == []


def run(foreign: Foreign, roles: Iterable[str], *arguments: str) -> Result:
    """Run the examples of roles, each for the host of its name."""
    done = foreign.examples({role: role for role in roles}, *arguments)
    done.stderr = ""
    return Result(done)


def lock_of(role: str, *cards: str) -> Json:
    """Return a lock on Debian 12 for the host on which a role's example runs."""
    wanted = tuple(parse(shipped(), card) for card in cards)
    return of(make(resolver(), Request("debian-12", wanted)), role)


def test_what_installs_packages_runs_alone(foreign: Foreign) -> None:
    """The role, its action plugin and the filter that reads the lock come from the collection; the module is a
    stand-in, because a real one would ask this machine's apt.
    """
    save(foreign.lock_file("nvidia_driver"), lock_of("nvidia_driver", "quadro p2000"))
    save(foreign.lock_file("virtualbox"), {**with_virtualbox(), "host": "virtualbox"})
    options = "state root driver kernel kept_only mok_password with_key wait_s progress"
    module = MODULE.replace(options, f"{options} virtualbox gui users extension_pack")
    roles = ["nvidia_driver", "virtualbox"]
    for role in roles:
        root = foreign.folder / role
        root.mkdir()
        (root / "answers.json").write_text(json.dumps(MISSING), encoding="utf-8")
        foreign.host(role, **{f"{role}_root": str(root)})
    with foreign.stand_in("gpuhost_driver", module), foreign.stand_in("gpuhost_virtualbox", module):
        done = run(foreign, roles)
    assert [done.failure(role) for role in roles] == ["", ""], done.out
    assert [done.recap[role]["changed"] for role in roles] == [1, 1]
    asked = {role: (foreign.folder / role / "asked").read_text(encoding="utf-8").splitlines() for role in roles}
    assert asked == {"nvidia_driver": [LOOK, "present"], "virtualbox": [LOOK, LOOK, "present"]}


#: Of each other role: how much its example would change on a bare host, and words that it says.
WOULD: Dict[str, Tuple[int, str]] = {
    "apt_guard": (0, "nothing"),
    "artifact": (1, ""),
    "cuda": (2, ""),
    "cudnn": (2, ""),
    "detection_service": (1, ""),
    "environment": (1, ""),
    "generation": (2, ""),
    "gpu_facts": (0, "10de:1c30"),
    "gpu_stack": (1, "Quadro P2000"),
    "opencv": (1, ""),
    "rebuild": (0, "rebuild has the cards of its lock"),
    "removal": (0, ""),
    "rollback": (0, "going back to generation 1"),
    "tensorflow": (1, ""),
    "update": (0, ""),
    "watch": (1, ""),
    "yolo": (1, ""),
}


@pytest.mark.parametrize(
    "roles",
    [
        pytest.param(["gpu_facts", "gpu_stack", "rollback", "tensorflow"], id="some"),
        pytest.param(sorted(WOULD), id="all", marks=pytest.mark.full),
    ],
)
def test_each_other_role_runs_alone_in_check_mode(foreign: Foreign, roles: List[str]) -> None:
    """With the modules themselves; only what this machine has in it is another's, recorded."""
    assert sorted([*WOULD, "nvidia_driver", "virtualbox"]) == ROLES
    roots = foreign.folder / "roots"
    shutil.rmtree(roots, ignore_errors=True)
    for role in roles:
        foreign.host(role, **{f"{name}_root": str(roots / role) for name in (role, "tensorflow")})
        if role in ("rebuild", "rollback"):
            save(foreign.lock_file(role), filters().make_plan(P2000, role, {})["lock"])
        elif role != "gpu_stack":  # which makes its own
            save(foreign.lock_file(role), lock_of(role, *(["quadro p2000"] if role in ("cuda", "cudnn") else [])))
    for number in ("1", "2"):
        links = {"yolo": f"store/yolo-{number}"}
        store.write_tree(roots / "rollback" / links["yolo"], {"f": ""}, number)
        generation = store.switch(roots / "rollback", lock.load(foreign.lock_file("rollback")), links)
        generations.note(roots / "rollback", generation, generations.SWITCH)
    with foreign.stand_in("gpuhost_facts", FACTS):
        done = run(foreign, roles, "--check", "--diff")
    assert {role: done.failure(role) for role in roles if done.failure(role)} == {}, done.out
    changed = {role: done.recap[role]["changed"] for role in roles}
    assert {role: changed[role] for role in roles if changed[role] < WOULD[role][0]} == {}, done.out
    assert [WOULD[role][1] for role in roles if WOULD[role][1] not in done.out] == []
