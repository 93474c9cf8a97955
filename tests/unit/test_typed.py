"""Commands that are told, as the user has to type them."""

from __future__ import annotations

from typing import List

import pytest

from gpuhost.planning.typed import own

SITE = "./run ansible-playbook site.yml"
VERIFY = "./run pytest verify/"


@pytest.mark.parametrize(
    ("text", "inventories", "hosts", "told"),
    [
        (SITE, [], "", SITE),
        (SITE, ["inv.yml"], "", "./run ansible-playbook -i inv.yml site.yml"),
        (SITE, ["a b.yml", "c,"], "x:!y", "./run ansible-playbook -i 'a b.yml' -i c, --limit 'x:!y' site.yml"),
        (f"{SITE} --limit z", ["i"], "x", "./run ansible-playbook -i i site.yml --limit z"),
        ("./run ansible-playbook -i mine site.yml", ["i"], "x", "./run ansible-playbook --limit x -i mine site.yml"),
        (f"{SITE} && {SITE} --limit z", [], "x", f"./run ansible-playbook --limit x site.yml && {SITE} --limit z"),
        (f"{SITE}\nothers --limit z", [], "x", "./run ansible-playbook --limit x site.yml\nothers --limit z"),
        (VERIFY, ["i"], "x", "./run pytest verify/ --hosts=x --ansible-inventory=i"),
        (VERIFY, ["i"], "", "./run pytest verify/ --hosts=gpu_hosts --ansible-inventory=i"),
        (VERIFY, [], "", VERIFY),
        (f"{VERIFY} --hosts=y", [], "x", f"{VERIFY} --hosts=y"),
        ("On the host: apt-get update", ["i"], "x", "On the host: apt-get update"),
    ],
)
def test_a_command_carries_what_it_does_not_name(text: str, inventories: List[str], hosts: str, told: str) -> None:
    """And once only: told again, it stays as it is."""
    assert own(text, inventories, hosts) == told
    assert own(told, inventories, hosts) == told
