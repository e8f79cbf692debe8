"""Texts for the transformer: sequences of word numbers, each looked up in a table (Devlin et al. 2019, BERT,
arXiv:1810.04805, without its segment embeddings and its masked-word task).

All texts have one length. A shorter one is filled up with a number that the vocabulary keeps for that: where the shape
names it as ``padding`` nobody attends to it, else it is a word like any other. ``unknown`` is the word that stands for
those that a board does not hold, if there is one.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Optional, Tuple

from cosp.submodel.adapters import Adapters
from cosp.submodel.layout import Axis, Layout, ParameterLayout
from cosp.submodel.plan import Units
from cosp.submodel.shape import FRESH, TransformerShape, Trunk

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class TextShape(TransformerShape):
    """What fixes a transformer on ``length`` words, each a number below ``vocabulary``."""

    vocabulary: int
    length: int
    classes: int
    dim: int
    blocks: int
    heads: int
    hidden: int
    exits: Tuple[int, ...]
    pooling: str = "mean"
    variant: str = "plain"
    padding: Optional[int] = None
    trunk: Trunk = FRESH
    unknown: Optional[int] = None
    adapters: Optional[Adapters] = None

    position_deviation: ClassVar[float] = 0.02
    """As BERT's: which words there are tells more than where."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("padding", "unknown"):
            word = getattr(self, name)
            if word is not None and not 0 <= word < self.vocabulary:
                raise ValueError(f"{name} must be a word in 0..{self.vocabulary - 1}, got {word}")

    @property
    def input_tokens(self) -> int:
        return self.length

    @property
    def sample_shape(self) -> Tuple[int, ...]:
        return (self.length,)

    @property
    def table(self) -> int:
        return self.vocabulary * self.dim

    def inputs(self) -> nn.Module:
        from cosp.models.halves import Embedding

        # the gradient is as large as the table: optimizer and update work on one vector of all parameters
        return Embedding(self.vocabulary, self.dim)

    def inputs_layout(self) -> Layout:
        return {"weight": ParameterLayout((self.vocabulary, self.dim), (Axis("words"), None))}

    def holding(self, words: Optional[Units]) -> TextShape:
        if words is None:
            return self
        if words[-1] >= self.vocabulary:
            raise ValueError(f"words must lie in 0..{self.vocabulary - 1}, got {words[-1]}")
        padding, unknown = _place(words, self.padding), _place(words, self.unknown)
        if self.padding is not None and padding is None:
            raise ValueError(f"words must have the padding, {self.padding}, among them")
        return replace(self, vocabulary=len(words), padding=padding, unknown=unknown)


def _place(words: Units, word: Optional[int]) -> Optional[int]:
    """Return where ``word`` is among the ascending ``words``, None if it is not."""
    if word is None:
        return None
    place = bisect_left(words, word)
    return place if place < len(words) and words[place] == word else None
