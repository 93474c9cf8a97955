"""Whether root can be had, with the real sudo: users of a private mount namespace, behind a stand-in for ssh."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest

from ..example_hosts import observed
from .conftest import Ansible, Result

pytestmark = [
    pytest.mark.play,
    pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("sudo"), reason="it needs root and sudo"),
]

PASSWORD = "open sesame"  # noqa: S105 - of a user that is nowhere
USERS = {"free": "free ALL=(ALL) NOPASSWD: ALL", "asked": "asked ALL=(ALL) ALL", "bare": "", "without": ""}
FIRST_ID = 47001
#: What runs a command as a user: in a namespace of its own, whose /etc knows that user.
SSH = """#!/bin/sh
for command; do :; done
exec unshare -m sh -c '
    for file in passwd shadow group sudoers sudoers.d; do mount --bind {folder}/$file /etc/$file; done
    mount --bind {folder}/bin /mnt
    export PATH={path}; exec /usr/bin/setpriv --reuid={user} --regid={user} --init-groups /bin/sh -c "$1"' sh "$command"
"""
REPORT = {"ansible.builtin.debug": {"msg": "root: {{ root.stdout }}"}}


def users(folder: Path) -> None:
    """Write the files of /etc that know the users beside this machine's own."""
    (folder / "sudoers.d").mkdir()
    hashed = subprocess.run(
        ["openssl", "passwd", "-6", PASSWORD], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    for name in ("passwd", "shadow", "group"):
        shutil.copy(f"/etc/{name}", folder / name)
        with (folder / name).open("a", encoding="utf-8") as file:
            for number, user in enumerate(USERS, FIRST_ID):
                line = {"passwd": f"x:{number}:{number}::/tmp:/bin/sh", "group": f"x:{number}:"}
                file.write(f"{user}:{line.get(name, f'{hashed}:19000:0:99999:7:::')}\n")
    rules = ["Defaults !fqdn, !syslog, timestamp_timeout=0, lecture=never", *filter(None, USERS.values())]
    (folder / "sudoers").write_text("\n".join(rules) + "\n", encoding="utf-8")
    (folder / "sudoers").chmod(0o440)


@pytest.fixture(name="hosts", scope="module")
def machines(ansible: Ansible, tmp_path_factory: pytest.TempPathFactory) -> Ansible:
    """An inventory with a host for each user; the user is all that tells them apart."""
    folder = tmp_path_factory.mktemp("users")
    users(folder)
    probe = subprocess.run(
        ["unshare", "-m", "mount", "--bind", str(folder / "sudoers"), str(folder / "passwd")], check=False
    )
    if probe.returncode != 0:
        pytest.skip("this root may not mount a file system (a container)")
    few = folder / "bin"
    few.mkdir()
    for program in ("sh", "id", "sleep", "echo"):
        (few / program).symlink_to(f"/bin/{program}")
    ansible.host("root")
    for user in USERS:
        script = folder / f"ssh-{user}"
        path = "/mnt" if user == "without" else "/usr/sbin:/usr/bin:/sbin:/bin"
        script.write_text(SSH.format(folder=folder, user=user, path=path), encoding="utf-8")
        script.chmod(0o755)
        # This controller's own Python need not be one that others may run.
        own = {"ansible_ssh_executable": str(script), "ansible_python_interpreter": "/usr/bin/python3"}
        ansible.host(user, ansible_connection="ssh", **own)
    return ansible


def become(hosts: Ansible, tmp_path: Path, password: str = "") -> Result:
    """Run the check and then one task as root; a password is given as -K would."""
    tasks: List[Dict[str, Any]] = [
        {"import_role": {"name": "gpu_stack", "tasks_from": "privilege"}},
        {"ansible.builtin.raw": "id -u", "register": "root", "changed_when": False},
        REPORT,
    ]
    more: List[str] = []
    if password:
        (tmp_path / "password").write_text(password, encoding="utf-8")
        more = ["--become-password-file", str(tmp_path / "password")]
    return hosts.play([{"hosts": "gpu_hosts", "become": True, "tasks": tasks}], *more)


def became(done: Result, host: str) -> bool:
    """Return whether the task after the check was done by root."""
    return done.recap[host]["failed"] == 0 and f"ok: [{host}] => \n    msg: |-\n        root: 0" in done.out


def test_without_a_password(hosts: Ansible, tmp_path: Path) -> None:
    """NOPASSWD will do; where a password is wanted -K is named, and where there is no sudo, that."""
    done = become(hosts, tmp_path)
    assert became(done, "root") and became(done, "free"), done.out
    assert "asked is asked for a password there. Add -K to the same command." in done.failure("asked")
    assert "As root, there: apt-get install sudo" in done.failure("without")
    assert not any(word in done.out for word in ("MODULE FAILURE", "Missing sudo password", "Traceback"))


def test_with_the_right_password(hosts: Ansible, tmp_path: Path) -> None:
    """-K is enough where the user may use sudo."""
    done = become(hosts, tmp_path, PASSWORD)
    assert became(done, "root") and became(done, "free") and became(done, "asked"), done.out
    assert "bare may not use sudo there. As root, there: adduser bare sudo" in done.failure("bare")


def test_with_a_wrong_password(hosts: Ansible, tmp_path: Path) -> None:
    """It is told as that."""
    assert "The password of asked that -K asked for was not accepted." in become(hosts, tmp_path, "wrong").failure(
        "asked"
    )


def test_all_that_is_wrong_is_told_at_once(hosts: Ansible) -> None:
    """That root cannot be had, and that the sources of apt are foreign, before anything is planned."""
    observation = {"gpu_stack_observation": observed("ubuntu1804-foreign-sources")}
    roles = [{"role": "gpu_stack", "vars": {"gpu_stack_root_needed": True, **observation}}]
    done = hosts.play([{"hosts": "asked:free", "roles": roles}])
    assert "Add -K to the same command." in done.failure("asked")
    for host in ("asked", "free"):
        assert "rm /etc/apt/sources.list.d/cuda.list" in done.failure(host)
        assert not hosts.lock_file(host).exists()
