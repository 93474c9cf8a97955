"""From what a user types, or a probe reads, to a card of the catalog: marketing name, PCI id or capability."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from typing import List, Optional, Sequence, Tuple

from ..errors import UnreadableError, UsageError
from ..shapes.lock import PlannedGpu
from ..shapes.observation import ObservedGpu
from ..versions import capability
from .catalog import Catalog
from .versions import version

NVIDIA = "10de"
GUEST_DRIVER = "it takes the guest driver of its host's release of NVIDIA's vGPU software, and no driver of an archive."
FROM_THE_HOST = (
    "Get that driver from whoever runs the host, or have the card passed through whole; "
    "for a stack without a card: gpuhost plan --gpu none"
)
#: Words by which people know the cards of other makers; none stands in a name of NVIDIA's.
OTHERS = {
    **dict.fromkeys(("amd", "ati", "radeon", "firepro", "instinct"), "AMD"),
    **dict.fromkeys(("intel", "arc", "iris", "uhd"), "Intel"),
}
#: The same by the vendor of a PCI id.
VENDORS = {"1002": "AMD", "1022": "AMD", "8086": "Intel"}
#: The profile of a share of a card behind its name: 16Q of a T4, 1-10C of an A100 that MIG divides.
SHARE = re.compile(r"-([0-9]-)?[0-9]{1,3}[ABCQ]$")
# Words of a product line that people leave out, and words that name a form of one product.
BRANDS = ("nvidia", "geforce", "quadro", "tesla", "rtx", "gtx")
MOBILE = {"mobile", "laptop", "max"}
LOOSE = re.compile(r"with|max|q|design|mobile|laptop|gpu|collectors|edition|refresh|\d+gb")
#: A chip, as lspci has it before the name of the card: GP106, GM107M, TU106GLM.
CHIP = re.compile(r"\b([A-Z]{1,2}[0-9]{2,3}[A-Z]*) \[([^\[\]]+)\]")
#: Where people leave a blank out: gtx1060, rtx3060ti.
JOINED = re.compile(
    r"\b(gtx|rtx|gts|gt|tesla|quadro|geforce|nvidia|titan)(?=[0-9a-z])|(?<=[0-9])(?=(?:ti)?(?:super)?$)|(?<=ti)(?=super)"
)
FORM = re.compile(r"(pcie|nvl|cnx|sxm\d?|hbm\d\w*|\d+gb|rev\. \w)( |$)")


@dataclass(frozen=True)
class Gpu:
    """One card; `device` is its PCI device id (four hex digits), or None when only a capability is known."""

    compute_capability: str
    generation: str
    device: Optional[str] = None
    name: Optional[str] = None
    chip: Optional[str] = None
    first_listed_driver: Optional[str] = None
    unlisted_up_to: Optional[str] = None
    note: str = field(default="", compare=False)

    def listed_too_late(self, driver: str) -> Optional[str]:
        """Return why NVIDIA's own lists speak against a driver for this card; None where they do not."""
        if self.first_listed_driver is not None and version(driver) < version(self.first_listed_driver):
            return f"{self.label} is first listed by driver {self.first_listed_driver}; this is {driver}"
        if self.unlisted_up_to is not None and version(driver) <= version(self.unlisted_up_to):
            return f"{self.label} is in no list of a driver up to {self.unlisted_up_to}; this is {driver}"
        return None

    @property
    def label(self) -> str:
        """The words by which messages call this card."""
        return self.name or (
            f"{self.chip} ({NVIDIA}:{self.device})" if self.device else f"a card of {self.compute_capability}"
        )

    def as_json(self) -> PlannedGpu:
        """The card's row in a plan."""
        return {
            "pci_id": f"{NVIDIA}:{self.device}" if self.device else None,
            "name": self.name,
            "chip": self.chip,
            "compute_capability": self.compute_capability,
            "generation": self.generation,
        }


def generation_of(catalog: Catalog, wanted: str) -> Optional[str]:
    """Return the generation (Maxwell, Ampere GA10x, ...) of a compute capability, or None when no chip has it."""
    return next((str(row["name"]) for row in catalog.gpus["generations"] if wanted in row["capabilities"]), None)


def from_device(catalog: Catalog, device: str, note: str = "") -> Gpu:
    """The card behind a PCI device id of NVIDIA; an id the catalog does not hold is a `UsageError`."""
    row = catalog.gpus["devices"].get(device.lower())
    if row is None:
        raise UsageError(
            f"No NVIDIA card with the PCI id {NVIDIA}:{device.lower()} is in the catalog.",
            "If it is a new card, add its row to src/gpuhost/data/gpus.json, or plan by capability (--gpu 8.9).",
        )
    cc = str(catalog.gpus["chips"][row["chip"]]["compute_capability"])
    generation = generation_of(catalog, cc)
    if generation is None:
        raise AssertionError(f"chip {row['chip']} has no generation")  # a law of the catalog's tests
    listed, unlisted = row.get("first_listed_driver"), row.get("unlisted_up_to")
    return Gpu(cc, generation, device.lower(), row["name"] or None, row["chip"], listed, unlisted, note)


def from_observation(catalog: Catalog, rows: Sequence[ObservedGpu], smi_status: str) -> List[Gpu]:
    """The cards of a probed machine; one that cannot be mapped or does not answer is an `UnreadableError`."""
    found = []
    for row in rows:
        vendor, _, device = str(row["pci_id"]).partition(":")
        where = row.get("pci_address", "?")
        if vendor != NVIDIA or device not in catalog.gpus["devices"]:
            raise UnreadableError(
                f"The card at {where} has the PCI id {row['pci_id']}, which the catalog does not know.",
                "Look it up, add its row to src/gpuhost/data/gpus.json, or plan by capability: gpuhost plan --gpu 8.9",
            )
        if is_virtual(catalog, device, str(row.get("subsystem_id") or "")):
            which = f"{row['pci_id']}, subsystem {row['subsystem_id']}"
            raise UnreadableError(f"The card at {where} ({which}) is a virtual GPU: {GUEST_DRIVER}", FROM_THE_HOST)
        if row.get("readable") is False and smi_status == "ok":
            raise UnreadableError(
                f"The card at {where} ({row['pci_id']}) is on the PCI bus, but the driver does not see it: "
                f"{row.get('error') or 'no answer'}.",
                "Look for 'Xid' or 'RmInitAdapter' in the kernel log (dmesg), reseat the card and its power cable.",
            )
        found.append(from_device(catalog, device))
    return found


def is_virtual(catalog: Catalog, device: str, subsystem: str) -> bool:
    """Return whether a card with this device and subsystem ("10de:1310") is a share of a card, lent to a guest."""
    vendor, _, part = subsystem.partition(":")
    return vendor == NVIDIA and part in catalog.gpus["virtual"].get(device, ())


def parse(catalog: Catalog, text: str) -> Gpu:
    """What `--gpu` takes: '10de:1c30' or '1c30', '6.1', or a marketing name. Anything else is a `UsageError`."""
    wanted = text.strip()
    refuse_others(wanted)
    # A whole line of lspci -nn has the id in brackets.
    line = re.search(r"\[(10de:[0-9a-f]{4})\]", wanted, re.IGNORECASE)
    wanted = line.group(1) if line else wanted
    match = re.fullmatch(r"(?:(?:0x)?10de:)?(?:0x)?([0-9a-f]{4})", wanted, re.IGNORECASE)
    if match and (":" in wanted or match.group(1).lower() in catalog.gpus["devices"]):
        if wanted.isdigit() and named(catalog, words_of(wanted)):
            raise UsageError(
                f"'{wanted}' is a PCI id and part of a card's name.",
                f"Write the id as {NVIDIA}:{wanted}, or the whole name.",
            )
        return from_device(catalog, match.group(1))
    if re.fullmatch(r"\d{1,2}\.\d", wanted):
        generation = generation_of(catalog, wanted)
        if generation is None:
            known = sorted({cc for row in catalog.gpus["generations"] for cc in row["capabilities"]}, key=capability)
            raise UsageError(
                f"No card of the catalog has the compute capability {wanted}.",
                f"Known are {', '.join(known)}.",
            )
        return Gpu(
            wanted,
            generation,
            note="planned for the capability alone: whether a driver claims the card's PCI id is not checked",
        )
    chip = CHIP.search(wanted)
    if chip:
        return by_name(catalog, chip.group(2), chip.group(1))
    # A line of nvidia-smi -L; an instance of MIG is a part of the card before it.
    listed = re.fullmatch(r"GPU [0-9]+: (.+?)(?: \(UUID: .*)?", wanted)
    return by_name(catalog, (listed.group(1) if listed else wanted).partition(" MIG ")[0])


def refuse_others(text: str) -> None:
    """Refuse the card of another maker, and a share of a card, by its name."""
    vendor = re.search(r"\b(?:0x)?(1002|1022|8086):[0-9a-f]{4}\b", text, re.IGNORECASE)
    maker = VENDORS[vendor.group(1)] if vendor else next((OTHERS[w] for w in words_of(text) if w in OTHERS), None)
    if maker is not None:
        raise UsageError(
            f"'{text}' is a card of {maker}: gpuhost plans for NVIDIA's cards only.",
            "For a stack without a card: gpuhost plan --gpu none",
        )
    if SHARE.search(text):
        raise UsageError(f"'{text}' is a virtual GPU: {GUEST_DRIVER}", FROM_THE_HOST)


def words_of(name: str) -> Tuple[str, ...]:
    """A marketing name as lower-case words without brackets, so that case and spacing do not matter."""
    return tuple(re.sub(r"[\[\](),/]", " ", name.casefold()).split())


def without_brand(words: Tuple[str, ...]) -> Tuple[str, ...]:
    """The words after the leading brand words ('geforce gtx 750 ti' is '750 ti')."""
    start = 0
    while start < len(words) - 1 and words[start] in BRANDS:
        start += 1
    return words[start:]


def only_forms(words: Tuple[str, ...]) -> bool:
    """Return whether the words name nothing but forms of one product ('pcie 80gb', 'rev. a', or nothing at all)."""
    return not FORM.sub("", " ".join(words))


def named(catalog: Catalog, wanted: Tuple[str, ...]) -> List[str]:
    """The device ids that a name, as words, stands for: itself with or without its brand, and forms of that product."""
    if not wanted:
        return []
    rows = [(device, words_of(row["name"])) for device, row in catalog.gpus["devices"].items() if row["name"]]
    same = [d for d, words in rows if words == wanted]
    if not same:
        tail = len(wanted)
        same = [
            d
            for d, words in rows
            if len(words) > tail and words[-tail:] == wanted and set(words[:-tail]) <= set(BRANDS)
        ]
    if same:
        full = words_of(catalog.gpus["devices"][same[0]]["name"])
        return same + [
            d for d, words in rows if d not in same and words[: len(full)] == full and only_forms(words[len(full) :])
        ]
    core = without_brand(wanted)
    bare = [(d, without_brand(words)) for d, words in rows]
    return [d for d, words in bare if words[: len(core)] == core and only_forms(words[len(core) :])]


def plain_words(name: str) -> Tuple[str, ...]:
    """A name as words, hyphens counted as blanks and without its maker: nvidia-smi writes V100-SXM2-16GB."""
    words = words_of(name.replace("-", " "))
    return words[1:] if words[:1] == BRANDS[:1] else words


def exactly(catalog: Catalog, name: str) -> List[str]:
    """The device ids of which a name is one that nvidia-smi prints, or the catalog's own but for hyphens."""
    wanted = plain_words(name)
    also = catalog.gpus["also_called"].items()
    found = [device for device, names in also if any(plain_words(text) == wanted for text in names)]
    rows = catalog.gpus["devices"].items()
    return found or [d for d, row in rows if row["name"] and plain_words(row["name"]) == wanted]


def standing_for(catalog: Catalog, name: str) -> List[str]:
    """The device ids that a name stands for, however its words are joined and whatever says its form.

    First the name itself, then with hyphens as blanks and with the blanks that people leave out, and last without the
    words for its form.
    """
    apart = JOINED.sub(lambda found: f"{found.group()} ", name.casefold().replace("-", " "))
    spelled = [words_of(name), words_of(name.replace("-", " ")), words_of(apart)]
    found = named(catalog, spelled[0]) or exactly(catalog, name)
    for words in spelled[1:]:
        found = found or named(catalog, words)
    return found or loosely(catalog, plain_words(name)) or loosely(catalog, plain_words(apart))


def loosely(catalog: Catalog, wanted: Tuple[str, ...]) -> List[str]:
    """The devices that a name fits without the words for its form and its memory; none where they differ in capability.

    nvidia-smi says "with Max-Q Design" where others say Mobile, and nothing at all for a card that is only made for
    laptops. Of those that fit, the ones of the same form are meant, where there are any.
    """
    key = without_form(wanted)
    rows = [(d, plain_words(row["name"])) for d, row in catalog.gpus["devices"].items() if row["name"]]
    fits = [(device, words) for device, words in rows if key and without_form(words) == key]
    mobile = [device for device, words in fits if MOBILE & set(words)] if MOBILE & set(wanted) else []
    found = mobile or [device for device, _ in fits]
    return found if len({from_device(catalog, device).compute_capability for device in found}) == 1 else []


def without_form(words: Tuple[str, ...]) -> Tuple[str, ...]:
    """The words of a name that tell one product from another."""
    return tuple(word for word in without_brand(words) if not LOOSE.fullmatch(word))


def by_name(catalog: Catalog, text: str, chip: Optional[str] = None) -> Gpu:
    """The card of a marketing name; `chip` is the one that lspci names before it.

    One name can stand for several PCI ids (two chips were sold as one product, or a product comes in several forms).
    Then the one that `commonest` puts first is meant, and the card's `note` names the others: a person who means
    another one gives the PCI id.
    """
    same = standing_for(catalog, text)
    # Behind the chip itself lspci has letters for its form: GM107M.
    same = [d for d in same if chip and chip.startswith(catalog.gpus["devices"][d]["chip"])] or same
    if not same:
        raise UsageError(f"No card called '{text}' is in the catalog.", hint(catalog, text))
    first, *others = (from_device(catalog, device) for device in commonest(catalog, same, text))
    if not others:
        return first
    listed = "; ".join(f"{NVIDIA}:{o.device} {o.label}, {o.chip}, {o.compute_capability}" for o in others)
    note = f"the name '{text}' is taken as {NVIDIA}:{first.device} ({first.label}, {first.chip}); it also fits {listed}"
    return from_device(catalog, str(first.device), note)


def hint(catalog: Catalog, text: str) -> str:
    """What to type in place of a name that is none: names like it, and the id of the first of them."""
    names = {row["name"].casefold(): row["name"] for row in catalog.gpus["devices"].values() if row["name"]}
    close = [names[name] for name in difflib.get_close_matches(text.casefold(), list(names), n=3, cutoff=0.5)]
    about = f"Did you mean {', '.join(close)}? " if close else ""
    best = close[0] if close else "Quadro P2000"
    device = commonest(catalog, standing_for(catalog, best), best)[0]
    return (
        f"{about}A card's PCI id (lspci -nn, of pciutils, shows it) always works: --gpu {NVIDIA}:{device}, for {best}"
    )


def commonest(catalog: Catalog, devices: List[str], name: str) -> List[str]:
    """Some devices of one name, the one that a person most likely has first: what most packages of all archives claim.

    Of those, what is called so and no more; the product's own chip, which is the smallest (what is left of a larger one
    is sold under its name as well); the memory that most of them have; and the lowest id.
    """
    claims = [set(p.get("claims", ())) for packages in catalog.drivers["archives"].values() for p in packages]
    rows = {device: catalog.gpus["devices"][device] for device in devices}
    wanted = without_brand(words_of(name.replace("-", " ")))
    memory = {device: re.findall(r"[0-9]+GB", row["name"]) for device, row in rows.items()}

    def order(device: str) -> Tuple[int, bool, int, int, str]:
        row = rows[device]
        size = re.search(r"([0-9]{1,2})[A-Z]?$", row["chip"])
        return (
            -sum(device in claimed for claimed in claims),
            without_brand(words_of(row["name"])) != wanted,
            -int(size.group(1)) if size else 0,
            -sum(other == memory[device] for other in memory.values()) if memory[device] else 0,
            device,
        )

    return sorted(devices, key=order)
