"""playbooks/verify.yml after a rebuild or an update that had nothing to do."""

from __future__ import annotations

from typing import Any, Dict

import pytest
import yaml

from .conftest import ROOT, Ansible

pytestmark = pytest.mark.play

#: What an earlier play has left of a host, and what verify/ is then asked for.
LEFT: Dict[str, Any] = {
    "fresh": ({}, "auto"),
    "same": ({"rebuild_result": {"differs": False}}, "none"),
    "swapped": ({"rebuild_result": {"differs": True}}, "auto"),
    "newest": ({"rebuild_update_result": {"differs": False}}, "none"),
    "asked": ({"rebuild_result": {"differs": False}, "verify_benchmark": "again"}, "again"),
}


def test_a_host_that_was_not_changed_is_not_measured(ansible: Ansible) -> None:
    """Unless somebody asks for it. The task's argument is taken as it stands in the playbook."""
    (play,) = yaml.safe_load((ROOT / "playbooks" / "verify.yml").read_text(encoding="utf-8"))
    (task,) = play["tasks"]
    for host, (left, _) in LEFT.items():
        ansible.host(host, **left)
    shown = {"ansible.builtin.debug": {"msg": f"asked: {task['gpuhost_verify']['benchmark']}"}, "vars": task["vars"]}
    done = ansible.play([{"hosts": "gpu_hosts", "tasks": [shown]}])
    for host, (_, benchmark) in LEFT.items():
        assert f"ok: [{host}] => \n    msg: 'asked: {benchmark}'" in done.out, done.out
