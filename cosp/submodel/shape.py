"""What fixes a transformer before a weight is there: its sizes, its exits, and where units lie in each parameter."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, ClassVar, Dict, Optional, Tuple

from cosp.submodel.adapters import READS_STREAM, Adapters, place, sides
from cosp.submodel.layout import Axis, Layout, ParameterLayout, whole
from cosp.submodel.plan import GroupSizes, SubmodelPlan, Units, full_plan

if TYPE_CHECKING:
    from torch import nn

POOLINGS = ("mean", "class")
NORMS = ("pre", "post")
GELUS = ("exact", "tanh")
POOLERS = ("none", "tanh", "relu")
VARIANTS = ("plain", "adaptive", "quantised")
BLOCK_NORMS = ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias")
EXIT_NORM = ("norm.weight", "norm.bias")
ADAPTERS_BEHIND = {"attention.out.bias": (*READS_STREAM, "output"), "ffn.down.bias": ("up", "down")}
"""Behind which of a block's parameters its adapters lie."""
PRODUCTS = 4  # queries, keys and values; attention's output; up; down


@dataclass(frozen=True)
class Trunk:
    """How a pretrained family's blocks compute; the default is how fresh ones do.

    ``norm``: "pre" normalises what enters a branch and what an exit reads, "post" each sum of stream and branch.
    ``own_tokens`` stand before the input's: the class token, and DeiT's that distils; BERT's is its first word.
    ``pooler`` is what a dense layer between exit and head ends with, "none" where the family has no such layer.
    """

    norm: str = "pre"
    epsilon: float = 1e-5
    gelu: str = "exact"
    own_tokens: int = 1
    embedding_norm: bool = False
    pooler: str = "none"

    def __post_init__(self) -> None:
        for name, known in (("norm", NORMS), ("gelu", GELUS), ("pooler", POOLERS)):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {known}, got {getattr(self, name)!r}")
        if not self.epsilon > 0:
            raise ValueError(f"epsilon must be > 0, got {self.epsilon}")
        if self.own_tokens < 0:
            raise ValueError(f"own_tokens must be >= 0, got {self.own_tokens}")


FRESH = Trunk()


class TransformerShape:
    """What fixes a transformer; ``ViTShape``, ``TextShape`` and ``SeriesShape`` are the frozen values.

    Each has its kind of input.

    ``exits`` are block counts after which an exit head stands, ascending. ``pooling`` is what an exit reads: the
    "mean" of all tokens, which learns faster from little data (Beyer et al. 2022, arXiv:2205.01580), or the "class"
    token alone, which is the first. ``variant`` is what a method needs the blocks to have beside the textbook's parts:
    AdaViT's policies or Q-ViT's quantisers. ``padding`` is the word that fills up short texts: nobody attends to it,
    and no mean counts it; None where every token is read. ``unknown`` is the word that stands for those that a board
    does not hold, None where there is none. ``adapters`` stand beside projections of every block; None: there are none.
    """

    classes: int
    dim: int
    blocks: int
    heads: int
    hidden: int
    exits: Tuple[int, ...]
    pooling: str
    variant: str
    padding: Optional[int] = None
    trunk: Trunk = FRESH
    unknown: Optional[int] = None
    adapters: Optional[Adapters] = None

    position_deviation: ClassVar[float]
    """Of fresh positions."""

    cut_in_place: ClassVar[bool] = False
    """Whether patches are read where they lie in a sample; those of an image are copied first, into rows."""

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {POOLINGS}, got {self.pooling!r}")
        if self.variant not in VARIANTS:
            raise ValueError(f"variant must be one of {VARIANTS}, got {self.variant!r}")
        if self.dim % self.heads:
            raise ValueError(f"heads must divide dim, got heads {self.heads}, dim {self.dim}")
        ascending = all(a < b for a, b in zip(self.exits, self.exits[1:]))
        if not self.exits or not ascending or self.exits[0] < 1 or self.exits[-1] != self.blocks:
            raise ValueError(f"exits must ascend from >= 1 to blocks = {self.blocks}, got {self.exits}")
        if self.adapters is not None:
            self._check_adapters(self.adapters)

    def _check_adapters(self, adapters: Adapters) -> None:
        if self.variant != "plain":
            raise ValueError(f"adapters are for plain blocks, not for {self.variant} ones")
        for name in adapters.projections:
            read, written = sides(name, dim=self.dim, head_dim=self.head_dim, hidden=self.hidden)
            most = min(read.entries, written.entries)
            if adapters.rank > most:
                raise ValueError(
                    f"adapters.rank must be at most {most}, the rank of {name}'s {written.entries} x {read.entries} "
                    f"weights, got {adapters.rank}"
                )

    @property
    def input_tokens(self) -> int:
        """How many tokens a sample is made into."""
        raise NotImplementedError

    @property
    def sample_shape(self) -> Tuple[int, ...]:
        """Shape of one sample, four bytes an entry."""
        raise NotImplementedError

    @property
    def input_macs(self) -> int:
        """Multiply-adds that make one sample into tokens."""
        return 0

    @property
    def table(self) -> int:
        """Parameters of a table that tokens are looked up in, 0 without one: read row by row, never multiplied."""
        return 0

    @property
    def words(self) -> int:
        """Rows of that table."""
        return self.table // self.dim

    def inputs(self) -> nn.Module:
        """Return the module that makes samples (batch, *sample_shape) into tokens (batch, input_tokens, dim)."""
        raise NotImplementedError

    def inputs_layout(self) -> Layout:
        """Return the shapes of that module's parameters; but for a table of words they are never sliced."""
        raise NotImplementedError

    def holding(self, words: Optional[Units]) -> TransformerShape:
        """Return what fixes the model whose table has the rows of ``words`` alone, numbered in their order: all that a
        submodel with these words is and costs. None: itself.
        """
        if words is not None:
            raise ValueError("there are no words in images and series")
        return self

    @property
    def tokens(self) -> int:
        """Length of the sequence: the input's and the model's own."""
        return self.input_tokens + self.trunk.own_tokens

    @property
    def head_dim(self) -> int:
        return self.dim // self.heads

    @cached_property
    def sizes(self) -> GroupSizes:
        ranks = 0 if self.adapters is None else self.adapters.rank
        return GroupSizes(self.heads, attention_rows=self.dim, hidden=self.hidden, ffn_rows=self.dim, ranks=ranks)

    def full_plan(self, depth: Optional[int] = None) -> SubmodelPlan:
        return full_plan(self.sizes, self.blocks if depth is None else depth)

    def exits_within(self, depth: int) -> Tuple[int, ...]:
        return tuple(position for position in self.exits if position <= depth)


def quarter_exits(blocks: int) -> Tuple[int, ...]:
    """Return the paper's exit positions floor(B/4), floor(B/2), floor(3B/4), B, without repeats or zero."""
    return tuple(sorted({max(1, blocks * quarter // 4) for quarter in (1, 2, 3, 4)}))


@lru_cache(maxsize=64)
def layout_of(shape: TransformerShape) -> Layout:
    """Return where the units lie in each parameter of ``Transformer(shape)``; shared, so not to be changed."""
    dim, hidden = shape.dim, shape.hidden
    trunk = shape.trunk
    layout: Layout = {
        **({"class_token": whole(1, trunk.own_tokens, dim)} if trunk.own_tokens else {}),
        "positions": whole(1, shape.tokens, dim),
        **{f"inputs.{name}": entry for name, entry in shape.inputs_layout().items()},
        **({f"embedding_{name}": whole(dim, norm=True) for name in EXIT_NORM} if trunk.embedding_norm else {}),
    }
    heads = Axis("heads", shape.head_dim)
    attention_row, unit, ffn_row = Axis("attention_rows"), Axis("hidden"), Axis("ffn_rows")
    for b in range(shape.blocks):
        sliced = {
            "norm1.weight": ((dim,), (None,)),
            "norm1.bias": ((dim,), (None,)),
            "attention.qkv_weight": ((3, dim, dim), (None, heads, None)),
            "attention.qkv_bias": ((3, dim), (None, heads)),
            "attention.out.weight": ((dim, dim), (attention_row, heads)),
            "attention.out.bias": ((dim,), (attention_row,)),
            "norm2.weight": ((dim,), (None,)),
            "norm2.bias": ((dim,), (None,)),
            "ffn.up.weight": ((hidden, dim), (unit, None)),
            "ffn.up.bias": ((hidden,), (unit,)),
            "ffn.down.weight": ((dim, hidden), (ffn_row, unit)),
            "ffn.down.bias": ((dim,), (ffn_row,)),
        }
        for name, (size, axes) in sliced.items():
            layout[f"blocks.{b}.{name}"] = ParameterLayout(size, axes, block=b, norm=name in BLOCK_NORMS)
            if name in ADAPTERS_BEHIND:
                layout.update(_adapter_layout(shape, b, ADAPTERS_BEHIND[name]))
        if shape.variant == "adaptive":
            policy = policy_shapes(dim, shape.heads)
            layout.update({f"blocks.{b}.{name}": whole(*size, block=b) for name, size in policy.items()})
        if shape.variant == "quantised":
            layout[f"blocks.{b}.quantisers.offsets"] = whole(4 * PRODUCTS, block=b)
    for i, after in enumerate(shape.exits):
        held = exit_shapes(shape)
        norms = EXIT_NORM if trunk.norm == "pre" else ()
        layout.update(
            {f"exits.{i}.{name}": whole(*size, exit_after=after, norm=name in norms) for name, size in held.items()}
        )
    return layout


def _adapter_layout(shape: TransformerShape, block: int, projections: Tuple[str, ...]) -> Layout:
    """Return where units lie in one block's adapters of these ``projections``."""
    found: Layout = {}
    adapters, rank_axis = shape.adapters, Axis("ranks")
    for name in projections:
        if adapters is None or name not in adapters.projections:
            continue
        read, written = sides(name, dim=shape.dim, head_dim=shape.head_dim, hidden=shape.hidden)
        rank = shape.sizes.ranks
        found[f"blocks.{block}.{place(name)}.a"] = ParameterLayout(
            (rank, read.entries), (rank_axis, read.axis), block=block, adapter=True
        )
        found[f"blocks.{block}.{place(name)}.b"] = ParameterLayout(
            (written.entries, rank), (written.axis, rank_axis), block=block, adapter=True
        )
    return found


def exit_shapes(shape: TransformerShape) -> Dict[str, Tuple[int, ...]]:
    """Return the shapes of an exit's parameters by name within it.

    After post-norm blocks what it reads is normalised already.
    """
    dim, trunk = shape.dim, shape.trunk
    norm: Dict[str, Tuple[int, ...]] = dict.fromkeys(EXIT_NORM, (dim,))
    pooler: Dict[str, Tuple[int, ...]] = {"pooler.weight": (dim, dim), "pooler.bias": (dim,)}
    return {
        **(norm if trunk.norm == "pre" else {}),
        **(pooler if trunk.pooler != "none" else {}),
        "head.weight": (shape.classes, dim),
        "head.bias": (shape.classes,),
    }


def policy_shapes(dim: int, heads: int) -> Dict[str, Tuple[int, ...]]:
    """Return the shapes of a policy's parameters by name within its block."""
    return {
        "policy.units.weight": (heads + 2, dim),
        "policy.units.bias": (heads + 2,),
        "policy.patches.weight": (1, dim),
        "policy.patches.bias": (1,),
    }
