"""Parts of the model that training leaves as they are: no gradient, no optimizer state, and sent to a client once.

======================  ===============================================================================================
``inputs``              all that makes tokens of a sample: word table or patches, class token, positions, their norm
``words``               the word table alone
``blocks: N``           the first N blocks and the inputs: a *trunk*, of which every client holds all units
``norms``               all LayerNorms
``trunk``               the inputs and all of the blocks but their adapters; a client may hold some of its units
======================  ===============================================================================================

Where inputs are frozen nothing before the first trained block has a gradient, so its activations are not kept. Exits
are trained always, those inside the trunk too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Sequence, Tuple

from cosp.submodel.layout import ParameterLayout

PARTS = ("inputs", "words", "norms", "blocks: N", "trunk")

FORMATS = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Number format in which a board holds what is frozen -> bytes an entry."""


@dataclass(frozen=True)
class Frozen:
    """``blocks``: so many, from the first on; they freeze the inputs, too. ``held_as``: one of ``FORMATS``."""

    inputs: bool = False
    words: bool = False
    norms: bool = False
    blocks: int = 0
    trunk: bool = False
    held_as: str = "float32"

    @property
    def entry_bytes(self) -> int:
        """Bytes of an entry of a frozen tensor."""
        return FORMATS[self.held_as]

    @property
    def halves(self) -> bool:
        """Say whether a board holds halves of what is frozen, and computes with what they say."""
        return self.held_as != "float32"

    @property
    def stream(self) -> bool:
        """Say whether what the first block reads has no gradient."""
        return self.inputs or self.trunk or self.blocks > 0

    @property
    def block_norms(self) -> bool:
        """Say whether the LayerNorms of blocks are left as they are."""
        return self.norms or self.trunk

    def holds(self, entry: ParameterLayout) -> bool:
        """Say whether the parameter is frozen."""
        if entry.exit_after is not None:
            return self.norms and entry.norm
        if entry.block is not None:
            return entry.block < self.blocks or (self.norms and entry.norm) or (self.trunk and not entry.adapter)
        return self.stream or (self.words and "words" in entry.groups) or (self.norms and entry.norm)


NOTHING = Frozen()


def canonical(parts: Sequence[Any]) -> Tuple[str, ...]:
    """Return what a configuration names as ``parts``, ``blocks: 2`` as such a text; ``ValueError`` at unknown ones."""
    found = [_canonical(part) for part in parts]
    if len({text.partition(":")[0] for text in found}) < len(found):
        raise ValueError(f"frozen names a part twice: {', '.join(found)}")
    return tuple(found)


def frozen_of(parts: Sequence[str], held_as: str = "float32") -> Frozen:
    """Return what ``canonical`` parts freeze."""
    blocks = [int(part.partition(":")[2]) for part in parts if part.startswith("blocks:")]
    return Frozen(
        inputs="inputs" in parts,
        words="words" in parts,
        norms="norms" in parts,
        blocks=blocks[0] if blocks else 0,
        trunk="trunk" in parts,
        held_as=held_as,
    )


def _canonical(part: Any) -> str:
    if part in ("inputs", "words", "norms", "trunk"):
        return str(part)
    count = part.get("blocks") if isinstance(part, dict) and len(part) == 1 else _count(part)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise ValueError(f"frozen must name some of {', '.join(PARTS)} (N at least 1), got {part!r}")
    return f"blocks: {count}"


def _count(part: Any) -> Any:
    name, colon, count = part.partition(":") if isinstance(part, str) else ("", "", "")
    return int(count) if name == "blocks" and colon and count.strip().isdecimal() else None
