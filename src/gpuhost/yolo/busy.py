"""Whether other work took part of the machine while it was measured, and the figures that say so."""

from typing import Any, Mapping, Optional

STOLEN_SHARE = 0.02
"""More than this part of the processors' time taken by the hypervisor is named."""


def words(entry: Mapping[str, Any], processors: Optional[int]) -> str:
    """Say with figures that the machine was busy; '' where it was not, or where nothing tells.

    The load counts the benchmark too, which alone keeps about as many processes running as there are processors. So
    the machine is busy when more wants to run than there are processors, and at least one of these is another's.
    """
    sampled, used = entry.get("sampled", {}), entry.get("usage", {}).get("cpu_s_per_wall_s")
    load = sampled.get("machine", {}).get("load_1min", {}).get("median")
    told = []
    if load is not None and used is not None and processors and load > processors and load - used >= 1:
        told.append(f"load {load:.1f} on {processors} processors, {used:.1f} of it the benchmark's own")
    stolen = sampled.get("stolen_share")
    if stolen is not None and stolen > STOLEN_SHARE:
        told.append(f"{1e2 * stolen:.1f} % of the processors' time stolen")
    return f"the machine was busy: {', '.join(told)}" if told else ""
