"""Texts for the transformer: sequences of word numbers, each looked up in a table (Devlin et al. 2019, BERT,
arXiv:1810.04805, without its segment embeddings and its masked-word task).

All texts have one length. A shorter one is filled up with a number that the vocabulary keeps for that: where the shape
names it as ``padding`` nobody attends to it, else it is a word like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Optional, Tuple

from torch import nn

from cosp.submodel.layout import Layout, whole
from cosp.submodel.shape import FRESH, TransformerShape, Trunk


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

    position_deviation: ClassVar[float] = 0.02
    """As BERT's: which words there are tells more than where."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding is not None and not 0 <= self.padding < self.vocabulary:
            raise ValueError(f"padding must be a word in 0..{self.vocabulary - 1}, got {self.padding}")

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
        # the gradient is as large as the table: optimizer and update work on one vector of all parameters
        return nn.Embedding(self.vocabulary, self.dim)

    def inputs_layout(self) -> Layout:
        return {"weight": whole(self.vocabulary, self.dim)}
