"""The roles artifact, cuda and cudnn as Ansible runs them: over a stand-in for ssh, on this machine, on a bare root.

One run with a play for each claim. The linker's files are the machine's own, so here they are only promised (check
mode); tests/e2e writes them.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, Iterator, List, NamedTuple

import pytest

from gpuhost.host import store
from gpuhost.host.driver import added
from gpuhost.planning import contents
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.gpus import parse
from gpuhost.planning.plan import make
from gpuhost.planning.resolve import resolver

from ..locks import of
from ..unit import standins
from ..unit.vendor import CONTENT, Vendor, certificate
from .conftest import Ansible, Result

pytestmark = pytest.mark.play

#: No package of any archive.
NEVER = "gpuhost-never"
# Takes ssh's command line and runs the last word of it here, as sshd does with a shell.
SSH = '#!/bin/sh\nfor last; do :; done\nexec sh -c "$last"\n'


class Run(NamedTuple):
    """What the run left and said."""

    result: Result
    folder: Path
    asked: List[str]
    sha256: str
    seen: Dict[str, Any]


def artifact(root: Path, file: Dict[str, Any], **more: Any) -> Dict[str, Any]:
    """A task that calls the role artifact."""
    named = {"artifact_root": str(root), "artifact_file": file, **more}
    return {"name": "Fetch", "ansible.builtin.include_role": {"name": "artifact"}, "vars": named}


def toolkit(root: Path, name: str, **arguments: Any) -> Dict[str, Any]:
    """A task that calls the module gpuhost_toolkit."""
    return {
        "name": f"Toolkit {name}",
        "gpuhost_toolkit": {"root": str(root), "name": "cudnn", **arguments},
        "register": name,
    }


def generation(root: Path, name: str, **arguments: Any) -> Dict[str, Any]:
    """A task that calls the module gpuhost_generation."""
    return {"name": name, "gpuhost_generation": {"root": str(root), **arguments}, "register": name}


def packages(root: Path, name: str, names: List[str], check: bool = False) -> Dict[str, Any]:
    """A task that calls the module gpuhost_packages."""
    arguments = {"root": str(root), "names": names}
    return {"name": name, "gpuhost_packages": arguments, "check_mode": check, "register": name}


def bare(root: Path) -> List[Dict[str, Any]]:
    """All the roles, as playbooks/cuda.yml and cudnn.yml call them for NVIDIA's wheels."""
    plan = make(resolver(), Request("debian-12", (parse(shipped(), "quadro p2000"),)))
    lock = contents.added(
        of(plan, "checked"), contents.Options(cuda_source="wheels", cudnn_source="wheels", cuda_extra=["13.0.2"])
    )
    made = ["{{ cuda_links }}", "{{ cudnn_links }}", "{{ opencv_links | default({}) }}"]
    links = {"generation_links": made, "generation_lock": lock, "generation_root": str(root)}
    role, wheels = "ansible.builtin.import_role", {"cuda_source": "wheels"}
    return [
        {
            "name": "CUDA",
            role: {"name": "cuda"},
            "vars": {"cuda_lock": lock, "cuda_root": str(root), "cuda_extra": ["13.0.2"], **wheels},
        },
        {"name": "cuDNN", role: {"name": "cudnn"}, "vars": {"cudnn_lock": lock, "cudnn_root": str(root), **wheels}},
        {"name": "Force", role: {"name": "generation"}, "vars": links},
        {"name": "Linker", role: {"name": "cuda", "tasks_from": "linker"}, "vars": {"cuda_root": str(root)}},
    ]


@pytest.fixture(scope="module")
def run(ansible: Ansible) -> Iterator[Run]:
    """One real run."""
    folder = ansible.folder
    ssh = folder / "ssh"
    ssh.write_text(SSH)
    ssh.chmod(0o755)
    remote = {"ansible_connection": "ssh", "ansible_ssh_executable": str(ssh), "ansible_ssh_transfer_method": "piped"}
    for name in ("checked", "alone", "tools", "wrong"):
        ansible.host(name)
    for name in ("one", "two"):
        ansible.host(name, **remote)
    local = folder / "mirror"
    local.mkdir()
    tarball = standins.cudnn(local / "c.tar.xz", "cuda", "lib")
    spec = {
        "name": "cudnn",
        "version": "8.6.0.163",
        "kind": "tarball",
        "digest": "abc",
        "file": {"name": "c"},
        "archive": [],
    }
    kept = ("first", "second", "needed", "without", "again", "gone", "promised", "there", "untouched", "noted")
    tools, patch = folder / "tools", pytest.MonkeyPatch()
    steps = [
        toolkit(tools, "first", spec=spec, artifact=str(tarball)),
        toolkit(tools, "second", spec=spec, artifact=str(tarball)),
        generation(tools, "forced", stack={"s": 1}, links={"cudnn": "store/cudnn-8.6.0.163-abc"}),
        toolkit(tools, "needed", version="all", state="absent"),
        generation(tools, "without", links={}, without=["cudnn"]),
        generation(tools, "again", links={}, without=["cudnn"]),
        {"name": "Forget", "ansible.builtin.file": {"path": f"{tools}/generations/1", "state": "absent"}},
        toolkit(tools, "gone", version="all", state="absent"),
        packages(folder / "noted", "promised", ["bash", NEVER], check=True),
        packages(folder / "noted", "there", ["bash"]),
        {"name": "Look", "ansible.builtin.stat": {"path": f"{folder}/noted"}, "register": "untouched"},
        packages(folder / "noted", "noted", ["bash", NEVER]),
        {
            "name": "Hand the results out",
            "ansible.builtin.copy": {
                "content": "{{ {" + ", ".join(f"'{name}': {name}" for name in kept) + "} | to_json }}",
                "dest": f"{folder}/seen.json",
            },
        },
    ]
    with Vendor(*certificate(folder)) as vendor, patch.context() as set_to:
        file = vendor.offer()
        set_to.setenv("SSL_CERT_FILE", str(vendor.certificate))
        set_to.setenv("XDG_CACHE_HOME", str(folder / "controller"))
        set_to.setenv("NO_PROXY", "127.0.0.1")
        roots = {name: folder / name for name in ("one", "two", "alone", "checked")}
        each = {**artifact(Path(f"{folder}/{{{{ inventory_hostname }}}}"), file)}
        known = {"name": "c.tar.xz", "url": "https://127.0.0.1:1/x", "sha256": standins.row(tarball)["sha256"]}
        missing = {**known, "name": "d.tar.xz"}
        result = ansible.play(
            [
                {
                    "hosts": "checked",
                    "tasks": [*bare(roots["checked"]), artifact(roots["checked"], file)],
                    "check_mode": True,
                    "diff": True,
                },
                {"hosts": "one,two", "tasks": [each, each]},
                {"hosts": "alone", "tasks": [each, artifact(roots["alone"], known, artifact_mirror_dir=str(local))]},
                {"hosts": "tools", "tasks": steps},
                {"hosts": "wrong", "tasks": [artifact(folder / "wrong", missing, artifact_mirror_dir=str(local))]},
            ]
        )
        asked = [path for path, _ in vendor.asked]
    seen = json.loads((folder / "seen.json").read_text()) if (folder / "seen.json").exists() else {}
    yield Run(result, folder, asked, file["sha256"], seen)
    shutil.rmtree(str(tools), ignore_errors=True)


def test_check_mode_promises_all_on_a_bare_host_and_makes_nothing(run: Run) -> None:
    """Both toolkits, cuDNN, the generation and the linker's files are shown; the root is not even made."""
    assert run.result.recap["checked"]["failed"] == 0, run.result.out
    assert not (run.folder / "checked").exists()
    out = "".join(run.result.out.split())
    for words in (
        "+nvidia-cuda-nvcc-cu1212.5.82",
        "+nvidia-cuda-nvcc13.0.88",
        "+nvidia-cudnn-cu129.10.2.21",
        f"+{run.folder}/checked/current/cuda/lib64",
        f"+exportCUDA_HOME={run.folder}/checked/current/cuda",
        "holdnonvcc",
    ):
        assert words in out, words


def test_a_fleet_downloads_once(run: Run) -> None:
    """Two remote hosts and the controller's cache: one request; one more by the local host, which fetches itself."""
    for host in ("one", "two", "alone"):
        assert run.result.recap[host]["failed"] == 0, run.result.out
        assert (run.folder / host / "cache/artifacts" / run.sha256 / "tool.run").read_bytes() == CONTENT
    assert len(run.asked) == 2
    assert (run.folder / "controller/gpuhost/artifacts" / run.sha256 / "tool.run").exists()
    for host in ("one", "two"):
        assert run.result.recap[host]["changed"] == 1  # the second call of the role found it there
    assert "controller: fetching tool.run: 100 %" in run.result.out
    assert "[one] sending tool.run, 5 MB" in run.result.out


def test_a_local_folder_serves_an_air_gapped_site(run: Run) -> None:
    """It is taken from there, and what it lacks is told with the folder's name; nobody else is asked."""
    assert list((run.folder / "alone/cache/artifacts").glob("*/c.tar.xz"))
    assert run.result.recap["wrong"]["failed"] == 1
    assert f"The folder {run.folder}/mirror does not hold d.tar.xz." in run.result.failure("wrong")
    assert "Nothing else is asked." in run.result.failure("wrong")


def test_the_module_installs_once_and_removes_what_nobody_needs(run: Run) -> None:
    """Kept with its reason while a generation links to it, deleted afterwards."""
    seen = run.seen
    assert run.result.recap["tools"]["failed"] == 0, run.result.out
    assert (seen["first"]["changed"], seen["second"]["changed"]) == (True, False)
    assert seen["needed"]["kept"] == {"cudnn-8.6.0.163-abc": [1]} and not seen["needed"]["changed"]
    assert "kept: generation 1 links to it" in seen["needed"]["told"]
    assert (seen["without"]["changed"], seen["again"]["changed"]) == (True, False)
    tools = run.folder / "tools"
    assert store.describe(tools, 2) == {"stack": {"s": 1}, "links": {}}
    assert seen["gone"]["removed"] == ["cudnn-8.6.0.163-abc"]
    assert list((tools / "store").iterdir()) == []


def test_only_missing_packages_are_noted(run: Run) -> None:
    """What dpkg has installed is not: neither in check mode nor for real, and for nothing missing no file is made."""
    seen = run.seen
    assert (seen["promised"]["names"], seen["there"]["names"], seen["noted"]["names"]) == ([NEVER], [], [NEVER])
    assert seen["promised"]["diff"]["after"].startswith(f"{NEVER} (not in apt's package lists")
    assert not seen["untouched"]["stat"]["exists"]
    record = store.read_json(run.folder / "noted" / added.RECORD)
    assert record is not None and record["added"] == [NEVER] and "bash" in record["before"]
