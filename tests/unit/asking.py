"""Requests from words, for the tests of the resolver: what a person would type, or an independent `Ask`."""

from __future__ import annotations

from typing import Any, Dict, Optional, Sequence, Tuple

from gpuhost.planning import gpus as gpu
from gpuhost.planning import plan
from gpuhost.planning.candidates import Request
from gpuhost.planning.catalog import shipped
from gpuhost.planning.resolve import Stack, resolver
from gpuhost.planning.versions import specifier

from .independent import Ask


def request(
    platform: str,
    *cards: str,
    kernel: Optional[str] = None,
    secure_boot: Optional[bool] = None,
    avx: Optional[bool] = None,
    without: Sequence[str] = (),
    **asked: str,
) -> Request:
    """The request that `gpuhost plan --os PLATFORM --gpu CARD ... --COMPONENT SPEC` makes."""
    wanted = {name: specifier(name, text) for name, text in asked.items()}
    gpus = tuple(gpu.parse(shipped(), card) for card in cards)
    left_out = frozenset(without)
    return Request(platform, gpus, wanted, dict(asked), kernel, secure_boot, avx, without=left_out)


def request_of(ask: Ask) -> Request:
    """The same question as an independent `Ask`."""
    cards = [f"10de:{card.device}" if card.device else card.capability for card in ask.cards]
    return request(
        ask.platform,
        *cards,
        kernel=ask.kernel,
        secure_boot=ask.secure_boot,
        avx=ask.avx,
        without=ask.without,
        **dict(ask.wanted),
    )


def chosen(stack: Optional[Stack]) -> Optional[Tuple[Optional[str], Optional[str], Optional[str]]]:
    """What of a stack `independent.best` says as well: TensorFlow, the tag of its Python, and the host's CUDA."""
    if stack is None:
        return None
    tensorflow, cuda = stack.tensorflow, stack.cuda
    return tensorflow and tensorflow.version, tensorflow and tensorflow.tag, cuda and cuda.version


def planned(platform: str, *cards: str, **rest: Any) -> Dict[str, Any]:
    """The plan over the shipped catalog."""
    return plan.make(resolver(), request(platform, *cards, **rest))
