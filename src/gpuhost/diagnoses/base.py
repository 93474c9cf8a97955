"""What a diagnosis is: a known failure with its cause and its fix, and how it shows itself at a check of verify/."""

from typing import TYPE_CHECKING, Callable, NamedTuple, Optional, Tuple

if TYPE_CHECKING:
    from ..shapes.seen import Seen

Remedy = Callable[["Seen"], str]


def always(seen: "Seen") -> bool:
    """The sign of a failure that can have one cause only."""
    return True


class Sign(NamedTuple):
    """How a diagnosis shows at a check that has failed.

    `seen` looks at what was collected of the host; it is asked for failed checks only, and changes nothing. `remedy`
    gives the command that fixes it, where the check's own does not.
    """

    check: str
    seen: "Callable[[Seen], bool]" = always
    remedy: Optional[Remedy] = None


class Diagnosis(NamedTuple):
    """One known failure. `fix` says what fixes it in general; a sign's remedy is what to type on the host that has it.

    `elsewhere` are other parts of the project that give it; tests/unit/elsewhere.json names the test that shows each.
    `by_hand` gives the command on a host that gpuhost has not provisioned, where the check's own would not do.
    `messages` are what programs print when this is the cause, as people quote it; `doctor --message` looks for them.
    `never` is the reason why a failure that others meet cannot happen to this stack; then nothing gives it.
    """

    id: str
    title: str
    cause: str
    fix: str
    signs: Tuple[Sign, ...] = ()
    elsewhere: Tuple[str, ...] = ()
    never: str = ""
    by_hand: Optional[Remedy] = None
    messages: Tuple[str, ...] = ()
