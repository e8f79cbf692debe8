"""Local training on one flat vector against the usual loop over separate parameters, same model, same batches.

The baseline is torch.optim.AdamW over ``model.parameters()`` with ``clip_grad_norm_``. Prints milliseconds a step
(median over repeats), the ratio paired run by run, and checks that both end at the same loss.

    python benchmarks/training_step.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch

from cosp.models.flat import FlatModel
from cosp.models.transformer import Transformer, initialise
from cosp.models.vit import ViTShape
from cosp.submodel.budget import shape_for_rate
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.plan import SubmodelPlan, prefix_plan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State, extract
from cosp.task.training import TrainSettings
from cosp.trainer.samples import Samples
from cosp.trainer.training import train
from cosp.transfer import TransferSettings, exit_loss

SHAPE = ViTShape(28, 7, 1, 10, 64, 4, 4, 256, (1, 2, 3, 4))
SETTINGS = TrainSettings(epochs=1, batch_size=32)
SAMPLES = 640


def flat(plan: SubmodelPlan, weights: State, data: Samples) -> float:
    model = FlatModel(SHAPE, plan, torch.device("cpu"))
    model.load(flatten(weights, spans_of(layout_of(SHAPE), plan.counts)))
    rng = np.random.default_rng(0)
    return train(model, data, settings=SETTINGS, transfer=TransferSettings(), version=0, rng=rng)


def separate(plan: SubmodelPlan, weights: State, data: Samples) -> float:
    model = Transformer(SHAPE, plan)
    model.load_state_dict(weights)
    optimizer = torch.optim.AdamW(model.parameters(), lr=SETTINGS.learning_rate, weight_decay=SETTINGS.weight_decay)
    order, losses = np.random.default_rng(0).permutation(SAMPLES), []
    for start in range(0, SAMPLES, SETTINGS.batch_size):
        chosen = order[start : start + SETTINGS.batch_size]
        logits = model(torch.from_numpy(data.x[chosen]))
        loss, deepest = exit_loss(logits, torch.from_numpy(data.y[chosen]), TransferSettings(), 0)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(deepest)
    return float(torch.stack(losses).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=9)
    repeats = parser.parse_args().repeats
    torch.set_num_threads(1)
    rng = np.random.default_rng(1)
    data = Samples(rng.normal(size=(SAMPLES, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, SAMPLES))
    whole = Transformer(SHAPE)
    initialise(whole, torch.Generator().manual_seed(0))
    state = {name: parameter.detach() for name, parameter in whole.named_parameters()}
    for keep in (0.25, 1.0):
        shape = shape_for_rate(SHAPE, keep)
        plan = prefix_plan(shape.counts, shape.depth)
        weights = extract(state, layout_of(SHAPE), plan)
        losses = flat(plan, weights, data), separate(plan, weights, data)
        if abs(losses[0] - losses[1]) > 1e-3:
            raise SystemExit(f"the two loops disagree: loss {losses}")
        pairs = []
        for _ in range(repeats):
            times = []
            for loop in (flat, separate):
                started = time.perf_counter()
                loop(plan, weights, data)
                times.append((time.perf_counter() - started) / (SAMPLES / SETTINGS.batch_size) * 1e3)
            pairs.append(times)
        print(f"training step at keep {keep:g}, batch {SETTINGS.batch_size}, median of {repeats}")
        print(f"  separate parameters {statistics.median(b for _, b in pairs):8.2f} ms")
        print(f"  one flat vector     {statistics.median(a for a, _ in pairs):8.2f} ms")
        print(f"  ratio               {statistics.median(b / a for a, b in pairs):8.2f} x faster")


if __name__ == "__main__":
    main()
