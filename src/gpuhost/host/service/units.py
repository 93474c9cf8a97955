"""The systemd units of the detection service, as text. Pure. Runs on the target: Python 3.6, standard library.

The socket outlives the service: while one is restarted, callers wait in its queue and none is refused. The service
starts in the folder of the generation in force, so that `/proc/PID/cwd` says which one a process serves.
"""

from typing import Dict

from ..units import UNITS
from .places import CARD, LAUNCHER, LINK, PROXY_GROUP, SERVICE, SETTINGS, SOCKET, SOCKET_FILE, STATE, USER

HEAD = "# Written by gpuhost, role detection_service.\n"
#: The variable of a running service that names the settings it was started with.
STARTED_WITH = "GPUHOST_SERVICE_SETTINGS"
#: The first systemd that knows every word of `_NEWER`. 18.04 has 237, which would complain of each.
KNOWS_NEWER = 247

_SOCKET = """\
[Unit]
Description=Socket of gpuhost's detection service: requests wait here while it is restarted
ConditionPathExists={root}/{link}

[Socket]
ListenStream={socket}
SocketUser=root
SocketGroup={group}
SocketMode=0660
Backlog=1024
RemoveOnStop=yes

[Install]
WantedBy=sockets.target
"""
# Without a display nobody has loaded nvidia-uvm or made the device nodes, and the service itself may not.
_CARD = """\
[Unit]
Description=Device nodes of the card for gpuhost's detection service
ConditionPathExists=/usr/bin/nvidia-modprobe
After=systemd-modules-load.service

[Service]
Type=oneshot
RemainAfterExit=no
ExecStart=/usr/bin/nvidia-modprobe -c 0 -u
"""
# DeviceAllow: drivers register the group as char-nvidia-frontend or, newer ones, as char-nvidia.
# Left out because CUDA needs what they take away: PrivateDevices, ProcSubset, MemoryDenyWriteExecute.
_SERVICE = """\
[Unit]
Description=Detection service of gpuhost: a photo in, JSON out
ConditionPathExists={root}/{link}
Requires={socket_unit}
Wants={card}
After=network.target nvidia-persistenced.service {socket_unit} {card}
StartLimitIntervalSec=300
StartLimitBurst=10

[Service]
User={user}
Group={user}
WorkingDirectory={root}/current
ExecStart={root}/current/venvs/opencv_cuda/bin/python -I -B {root}/{link}/{launcher} serve --settings {settings}
Environment={variable}={digest}
Environment=CUDA_CACHE_PATH={state}/compiled
Environment=OPENCV_IO_MAX_IMAGE_PIXELS={pixels}
StateDirectory=gpuhost-detect
StateDirectoryMode=0700
UMask=0077
Restart=on-failure
RestartSec=2
# Settings that cannot be read do not get better by themselves.
RestartPreventExitStatus=2
KillMode=mixed
TimeoutStopSec={stop_s}

NoNewPrivileges=yes
CapabilityBoundingSet=
ProtectSystem=strict
ProtectHome=yes
PrivateTmp=yes
ProtectControlGroups=yes
ProtectKernelModules=yes
LockPersonality=yes
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
SystemCallArchitectures=native
SystemCallFilter=~@clock @cpu-emulation @debug @module @mount @obsolete @raw-io @reboot @swap
SystemCallErrorNumber=EPERM
{network}DevicePolicy=closed
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps rw
DeviceAllow=/dev/nvidiactl rw
MemoryMax={memory}
TasksMax=512
LimitNOFILE=8192
LimitCORE=0
{newer}
[Install]
WantedBy=multi-user.target
"""
_NEWER = """\
ProtectProc=invisible
ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
RestrictSUIDSGID=yes
"""
_NO_NETWORK = "IPAddressDeny=any\n"


def texts(
    root: str, digest: str, pixels: int, deadline_s: int, memory: str, calls_out: bool, systemd: int
) -> Dict[str, str]:
    """Return the units by path. `digest` is that of the settings; `calls_out`, whether the service sends alerts to the
    network; `systemd`, the host's version of it.
    """
    given = {
        "root": root,
        "link": LINK,
        "socket": SOCKET_FILE,
        "group": PROXY_GROUP,
        "socket_unit": SOCKET,
        "card": CARD,
        "user": USER,
        "launcher": LAUNCHER,
        "settings": SETTINGS,
        "variable": STARTED_WITH,
        "digest": digest,
        "state": STATE,
        "pixels": pixels,
        # A request that is inside when the service is stopped is answered first.
        "stop_s": deadline_s + 15,
        "memory": memory,
        "network": "" if calls_out else _NO_NETWORK,
        "newer": _NEWER if systemd >= KNOWS_NEWER else "",
    }
    parts = {SOCKET: _SOCKET, CARD: _CARD, SERVICE: _SERVICE}
    return {f"{UNITS}/{name}": HEAD + text.format(**given) for name, text in parts.items()}
