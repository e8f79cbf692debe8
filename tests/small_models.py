"""Transformers small enough to print, random plans over them, and weights for them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from cosp.models import SeriesShape, TextShape, TransformerShape, Trunk, ViTShape
from cosp.models.transformer import Transformer
from cosp.submodel.adapters import PROJECTIONS, Adapters
from cosp.submodel.plan import GROUPS, BlockPlan, SubmodelPlan, all_units
from cosp.submodel.shape import FRESH, GELUS, NORMS, POOLERS, POOLINGS, layout_of
from cosp.submodel.slicing import State, extract

SMALL = ViTShape(image=4, patch=2, channels=1, classes=3, dim=8, blocks=3, heads=2, hidden=6, exits=(1, 2, 3))
TINY = ViTShape(image=2, patch=1, channels=1, classes=2, dim=4, blocks=2, heads=2, hidden=3, exits=(1, 2))
VIT_B = ViTShape(
    image=224, patch=16, channels=3, classes=300, dim=768, blocks=12, heads=12, hidden=3072, exits=(3, 6, 9, 12)
)
BERT = TextShape(
    vocabulary=30_522, length=128, classes=20, dim=768, blocks=12, heads=12, hidden=3072, exits=(3, 6, 9, 12)
)
BERT_TRUNK = Trunk(norm="post", epsilon=1e-12, own_tokens=0, embedding_norm=True, pooler="tanh")
FASHION = ViTShape(image=28, patch=7, channels=1, classes=10, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))
NEWS = TextShape(vocabulary=8000, length=31, classes=20, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4))
MOVES = SeriesShape(
    steps=128, patch=4, channels=9, classes=6, dim=64, blocks=4, heads=4, hidden=256, exits=(1, 2, 3, 4)
)
SENTENCES = replace(NEWS, vocabulary=2000, length=32, padding=0, trunk=replace(BERT_TRUNK, pooler="none"))


@st.composite
def trunks(draw: st.DrawFn) -> Trunk:
    """That of fresh models, or any other."""
    if draw(st.booleans()):
        return FRESH
    return Trunk(
        norm=draw(st.sampled_from(NORMS)),
        epsilon=draw(st.sampled_from([1e-12, 1e-5])),
        gelu=draw(st.sampled_from(GELUS)),
        own_tokens=draw(st.integers(0, 2)),
        embedding_norm=draw(st.booleans()),
        pooler=draw(st.sampled_from(POOLERS)),
    )


@st.composite
def shapes(draw: st.DrawFn) -> TransformerShape:
    heads, head_dim, blocks = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 3))
    exits = {*draw(st.sets(st.integers(1, blocks))), blocks}
    encoder: dict[str, Any] = {
        "classes": draw(st.integers(2, 4)),
        "dim": heads * head_dim,
        "blocks": blocks,
        "heads": heads,
        "hidden": draw(st.integers(1, 9)),
        "exits": tuple(sorted(exits)),
        "pooling": draw(st.sampled_from(POOLINGS)),
        "trunk": draw(trunks()),
    }
    if draw(st.integers(0, 3)) == 0:
        most = min(encoder["dim"], encoder["hidden"])
        on = draw(st.sets(st.sampled_from(PROJECTIONS), min_size=1))
        encoder["adapters"] = Adapters(rank=draw(st.integers(1, min(3, most))), projections=tuple(on))
    kind = draw(st.sampled_from([ViTShape, TextShape, SeriesShape]))
    if kind is TextShape:
        padding = draw(st.sampled_from([None, 0]))
        return TextShape(vocabulary=draw(st.integers(1, 5)), length=draw(st.integers(1, 6)), padding=padding, **encoder)
    if kind is SeriesShape:
        patch, patches = draw(st.integers(1, 3)), draw(st.integers(1, 4))
        return SeriesShape(steps=patch * patches, patch=patch, channels=draw(st.integers(1, 3)), **encoder)
    return ViTShape(image=4, patch=draw(st.sampled_from([1, 2, 4])), channels=draw(st.integers(1, 2)), **encoder)


@st.composite
def plans(draw: st.DrawFn, shape: TransformerShape) -> SubmodelPlan:
    """Any plan whose deepest block has an exit; it keeps all ranks of adapters."""

    def units(size: int) -> tuple[int, ...]:
        return tuple(sorted(draw(st.sets(st.integers(0, size - 1), min_size=1))))

    depth = draw(st.sampled_from(shape.exits))
    ranks = all_units(shape.sizes.ranks)
    return SubmodelPlan(
        tuple(BlockPlan(**{group: units(shape.sizes.of(group)) for group in GROUPS}, ranks=ranks) for _ in range(depth))
    )


@st.composite
def shapes_and_plans(draw: st.DrawFn) -> tuple[TransformerShape, SubmodelPlan]:
    shape = draw(shapes())
    return shape, draw(plans(shape))


def same_units(depth: int = 1, **kept: tuple[int, ...]) -> SubmodelPlan:
    """The plan that keeps the same ``kept`` units in each block."""
    return SubmodelPlan((BlockPlan(**kept),) * depth)


def random_state(shape: TransformerShape, seed: int = 0, dtype: torch.dtype = torch.float32) -> State:
    """Random values for every parameter of the whole model, LayerNorms included."""
    generator = torch.Generator().manual_seed(seed)
    layout = layout_of(shape)
    return {name: torch.randn(entry.shape, generator=generator, dtype=dtype) / 2 for name, entry in layout.items()}


def random_update(shape: TransformerShape, plan: SubmodelPlan, seed: int) -> State:
    return extract(random_state(shape, seed), layout_of(shape), plan)


def random_samples(
    shape: TransformerShape, count: int = 2, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Images or series of ``dtype``, or texts."""
    generator = torch.Generator().manual_seed(seed)
    if isinstance(shape, TextShape):
        return torch.randint(shape.vocabulary, (count, shape.length), generator=generator, dtype=torch.int32)
    return torch.randn(count, *shape.sample_shape, generator=generator, dtype=dtype)


def model_with(shape: TransformerShape, state: State, plan: SubmodelPlan | None = None) -> Transformer:
    """The submodel of ``plan``, cut out of the whole model's ``state``."""
    plan = plan or shape.full_plan()
    model = Transformer(shape, plan).to(next(iter(state.values())).dtype)
    model.load_state_dict(extract(state, layout_of(shape), plan))
    return model
