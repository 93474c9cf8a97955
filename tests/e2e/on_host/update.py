"""What playbooks/tasks/update.yml asks of a host until the restart, through the functions that its modules call.

With a word, "prepared" or "armed", the calls of that part that change something are counted (cutting.py).
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, "/root/src")

import cutting

from gpuhost.host.commands import run_command
from gpuhost.host.driver.set import booting, this_machine
from gpuhost.host.driver.setup import Setup
from gpuhost.host.edges import Edges
from gpuhost.host.guard import hold
from gpuhost.host.pairs.ask import Asked
from gpuhost.host.work import Work


def say(text):
    """Tell a step at once."""
    print(text, flush=True)


def main(parts):
    """Prepared, the driver with its kernel, armed, and the guard."""
    asked = json.loads(Path("/root/asked.json").read_text())
    edges, root = Edges("/", run_command), asked["root"]
    with cutting.counted("prepared" in parts):
        say(Asked(asked, edges, False).prepared())
    work = Work(Path(root) / "log/driver.log", say)
    setup = Setup(dict(asked, kept_only=False), booting(this_machine(), asked["kernel"]), work)
    if setup.differences():
        with work.turn(setup.root, "the driver, state present", True):
            setup.present()
    with cutting.counted("armed" in parts):
        say(Asked(asked, edges, False).armed())
    hold.hold(edges, root, 300.0, False)


if __name__ == "__main__":
    main(sys.argv[1:])
