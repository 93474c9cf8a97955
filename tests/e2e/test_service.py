"""The detection service on a bare Debian 12: put on, asked as the README has it, and taken away.

apt, nginx, systemd and the sandbox are the real ones; only a card is missing. One bed serves the tests in their order.
What fails around it, and its switches, are in test_service_failures.py; a host with a card in test_service_driver.py.
"""

from __future__ import annotations

import json
from typing import Iterator

import pytest

from .beds import Bed
from .beds.bed import CLONE, PROJECT
from .readme import start_commands
from .service_bed import (
    LISTEN,
    SERVICE,
    detected,
    furnish,
    listening,
    new_key,
    play,
    site,
    statuses,
    wait_ready,
)


@pytest.fixture(scope="module")
def bed(bed_tools: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    """A bare Debian 12 with a fresh clone, curl, sudo, and a trained network of the owner's to answer by default."""
    with Bed.fresh(logs=tmp_path_factory.mktemp("bed")) as made:
        furnish(made, tmp_path_factory.mktemp("service"), service_default_model="face")
        made.run(["apt-get", "update", "-q"])
        made.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", "curl", "sudo"])
        yield made


class TestService:
    """From a bare host to a service and back."""

    def test_it_is_put_on(self, bed: Bed) -> None:
        """One variable more: ready behind nginx, verify/ posts a photo, and port 80 was not opened."""
        (changed, failed), _ = site(bed)
        assert changed > 0 and failed == 0
        assert statuses(bed) == ["pass"]
        assert listening(bed) == [LISTEN]

    def test_the_second_run_changes_nothing(self, bed: Bed) -> None:
        """The same command again: changed=0."""
        assert site(bed)[0] == (0, 0)

    def test_the_readmes_line_finds_the_face(self, bed: Bed) -> None:
        """Typed as it stands, in the clone: a key, and the photo. The network is the trained one, and real."""
        (line,) = start_commands((PROJECT / "README.md").read_text(), "## Ask it over HTTP")
        answer = json.loads(bed.run(["sh", "-c", line], cwd=CLONE).stdout)
        (face,) = answer["detections"]
        assert answer["photo"] == "astronaut.jpg" and answer["meaningful"] is True
        assert face["label"] == "face" and face["score"] == pytest.approx(0.972, abs=0.002)
        assert face["box"] == pytest.approx([163.4, 75.8, 115.4, 110.6], abs=1.0)

    def test_the_other_ways_to_ask(self, bed: Bed) -> None:
        """Weights that are made say that they detect nothing meaningful; DeepStack's form; no key in any log."""
        key = new_key(bed, "camera")
        status, answer = detected(bed, key, "-F", "model=yolov4-tiny")
        assert status == 200 and answer["meaningful"] is False
        status, answer = detected(bed, key, url=f"http://{LISTEN}/v1/vision/custom/face")
        assert status == 200 and answer["success"] and len(answer["predictions"]) == 1
        bed.run(["gpuhost-keys", "revoke", "camera"])
        assert detected(bed, key)[0] == 401, "a revoked key is refused at once"
        logged = bed.run(["sh", "-c", "journalctl -u gpuhost-detect --no-pager; cat /var/log/nginx/*"]).stdout
        assert "/v1/detect" in logged and key not in logged

    def test_a_killed_process_comes_back(self, bed: Bed) -> None:
        """SIGKILL of all of it: systemd restarts it, and callers find it at the same address."""
        bed.run(["systemctl", "kill", "--signal=KILL", SERVICE])
        wait_ready(bed)
        assert detected(bed, new_key(bed, "after"))[0] == 200

    @pytest.mark.full
    def test_removal_leaves_nothing(self, bed: Bed) -> None:
        """Units, user, keys, site, own networks and nginx are gone. Run with `-m e2e`, as it needs those before it."""
        assert play(bed, "playbooks/remove.yml", "-e", "removal_confirm=localhost")[0][1] == 0
        places = ["/etc/gpuhost", "/etc/nginx", "/var/log/nginx", "/var/lib/gpuhost-detect", "/var/lib/gpuhost-models"]
        places += ["/usr/local/sbin/gpuhost-keys", "/opt/gpuhost", "/run/gpuhost-bodies", "/run/gpuhost-detect"]
        left = bed.run(["sh", "-c", 'for one in "$@"; do test ! -e "$one" || echo "$one"; done', "-", *places]).stdout
        left += bed.run(
            ["sh", "-c", "ls -d /etc/systemd/system/*gpuhost* /etc/systemd/system/*/*gpuhost*"], check=False
        ).stdout
        left += bed.run(["getent", "passwd", "gpuhost-detect"], check=False).stdout
        left += bed.run(["sh", "-c", "dpkg -l 'nginx*' | grep ^ii"], check=False).stdout
        assert left == "" and bed.state() == "running"
