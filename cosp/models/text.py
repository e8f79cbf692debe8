"""Texts for the transformer: sequences of word numbers, each looked up in a table (Devlin et al. 2019, BERT,
arXiv:1810.04805, without its segment embeddings and its masked-word task).

All texts have one length. A shorter one is filled up with any number the vocabulary keeps for that, which attention
reads as a word like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Tuple

from torch import nn

from cosp.submodel.layout import Layout, whole
from cosp.submodel.shape import TransformerShape


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

    position_deviation: ClassVar[float] = 0.02
    """As BERT's: which words there are tells more than where."""

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
