"""The trainer: does a client's work on its data, and knows nothing of who asked.

A simulator's worker process, Flower's ClientApp and the trainer process on a board are doors to this one class. It
needs Python 3.8, torch 2.0 and nothing of Flower.
"""

from __future__ import annotations

import time
import traceback
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cosp.models.flat import FlatModel, Frames
from cosp.seeds import numpy_stream, torch_stream
from cosp.submodel.plan import Units
from cosp.submodel.selection import Scores
from cosp.submodel.words import recoded
from cosp.task.compression import rounded_
from cosp.task.demand import judging_batch
from cosp.task.payload import scores_to_vector, sends_whole_numbers
from cosp.task.scoring import ScoreSettings
from cosp.task.task import EVALUATION_BATCH, Task
from cosp.trainer.importance import (
    GateSettings,
    learned_scores,
    magnitude_scores,
    squared_gradient_scores,
    taylor_scores,
)
from cosp.trainer.moments import sum_moments
from cosp.trainer.ordered import inside, ordered_passes
from cosp.trainer.penalised import penalised_passes
from cosp.trainer.power import PowerMeter
from cosp.trainer.privacy import protect_, secret_generator
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.telemetry import Telemetry
from cosp.trainer.training import PLAIN, Judge, Passes, Variation, evaluation_batches, train
from cosp.trainer.views import view_of
from cosp.trainer.vitals import Vitals
from cosp.transfer import log_class_shares, log_present, mean_prediction

Result = Tuple[Dict[str, Any], Tensor]
"""JSON-able facts and one float32 vector (weight change, scores, moments, or prediction counts)."""


class Trainer:
    """Keeps data and device warm between tasks."""

    def __init__(
        self,
        clients: Mapping[int, ClientSamples],
        splits: Mapping[str, Samples],
        meter: Optional[PowerMeter] = None,
        device: Optional[str] = None,
        *,
        vitals: Optional[Vitals] = None,
        secretive: bool = False,
        sparing: bool = False,
    ) -> None:
        """``device`` None: the GPU, if torch sees one. ``secretive``: noise is drawn from the operating system's
        entropy, as on boards; else by the task's seed, as a simulation repeats itself. ``sparing``: as many samples are
        answered at a time as a task says, as on boards; else as many as are judged.
        """
        self.clients = clients
        self.splits = splits
        self.meter = meter
        self.vitals = vitals
        self._secretive = secretive
        self._sparing = sparing
        self._frames = Frames()
        self._lane_frames: Optional[Frames] = None
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))

    def run(self, task: Task, weights: Tensor, frozen: Optional[Tensor] = None) -> Result:
        """Do ``task`` on the submodel whose tensors lie end to end in ``weights`` (float32, not written to): as
        ``task.spans`` say, or where those that are ``frozen`` lie apart, the trained ones alone.

        The facts hold what it took, too: see :class:`~cosp.trainer.telemetry.Telemetry`. Of a task with others beside
        it ``weights`` are all of theirs end to end, as is what is found; the facts of each are in the list "each".
        """
        if task.beside:
            with Telemetry(self.meter, self.vitals) as telemetry:
                told, found = self._together(task.each, weights.view(1 + len(task.beside), -1))
            return {"each": [{**facts, **telemetry.facts} for facts in told]}, found.flatten()
        work = {
            "train": self._train,
            "score": self._score,
            "moments": self._moments,
            "evaluate": self._evaluate,
            "serve": self._serve,
        }[task.kind]
        with Telemetry(self.meter, self.vitals) as telemetry:
            shape, left = task.held_shape, task.frozen
            frame = self._frames.take(shape, task.plan, left)
            trains = task.kind == "train"
            model = FlatModel(shape, task.plan, self.device, trains=trains, frame=frame, frozen=left)
            model.load(weights, frozen)
            facts, vector = work(task, model, weights[-len(model.weights) :])
            self._frames.put_back(shape, task.plan, frame, left)
            vector = vector.cpu()
            if sends_whole_numbers(task):
                rounded_(vector, task.trained_spans)
        return {**facts, **telemetry.facts}, vector

    def _own(self, task: Task) -> ClientSamples:
        """Return the client's samples, its texts in the numbers of the words that the task is about."""
        own, words = self.clients[task.client], task.plan.words
        return own if words is None else in_words(own, words, task.held_shape.unknown)

    def _train(self, task: Task, model: FlatModel, received: Tensor) -> Result:
        own = self._own(task)
        log_prior = self._log_prior(task, own.train)
        variation = variation_of(task.in_own_words(), model)
        if variation.view is not None:
            variation.view.show(model.weights)
        before = _accuracy(model, own.test, judging_batch(task), log_prior)
        started_s = time.perf_counter()
        loss = train(
            model,
            own.train,
            settings=task.training,
            transfer=task.transfer,
            version=task.version,
            rng=numpy_stream(task.seed, "batches", task.client, task.version),
            log_prior=log_prior,
            variation=variation,
            asked_at_once=judging_batch(task),
        )
        train_s = time.perf_counter() - started_s  # the loss is a number by now, so a GPU has finished
        facts = {
            "samples": len(own.train.y),
            "wall_step_s": train_s / task.training.steps(len(own.train.y)),
            "loss": loss,
            "local_accuracy_received": before,
            "local_accuracy_trained": _accuracy(model, own.test, judging_batch(task), log_prior),
        }
        received, view = received.to(self.device), variation.view
        change = model.weights.detach() - received if view is None else view.change(received)
        privacy = task.training.privacy
        return facts, change if privacy is None else protect_(change.cpu(), privacy, self._noise(task))

    def _together(self, tasks: Sequence[Task], weights: Tensor) -> Tuple[List[Dict[str, Any]], Tensor]:
        """Train ``tasks`` in one pass, from a row of ``weights`` each; return their facts and what they found.

        If that raises, each is trained alone, and the facts of those that raise then are their traceback: "failed".
        """
        from cosp.trainer.together import Side, lane_frames, train_sides  # torch.func, which a board does without

        self._lane_frames = self._lane_frames or lane_frames()
        try:
            owns = [self._own(task) for task in tasks]
            sides = [Side(task, own, self._log_prior(task, own.train)) for task, own in zip(tasks, owns)]
            told, found = train_sides(sides, weights, self._lane_frames, self.device)
        except torch.cuda.OutOfMemoryError:
            raise
        except Exception:
            told, found = self._one_by_one(tasks, weights)
            if not any("failed" in facts for facts in told):
                raise
            return told, found
        for task, row in zip(tasks, found):
            if task.training.privacy is not None:
                protect_(row, task.training.privacy, self._noise(task))
            if sends_whole_numbers(task):
                rounded_(row, task.trained_spans)
        return told, found

    def _one_by_one(self, tasks: Sequence[Task], weights: Tensor) -> Tuple[List[Dict[str, Any]], Tensor]:
        told: List[Dict[str, Any]] = []
        found = torch.zeros_like(weights, device="cpu")
        for task, row, change in zip(tasks, weights, found):
            try:
                facts, vector = self.run(task, row)
                change.copy_(vector)
            except Exception:  # whatever a task raises is that task's result
                facts = {"failed": traceback.format_exc()}
            told.append(facts)
        return told, found

    def _noise(self, task: Task) -> torch.Generator:
        return secret_generator() if self._secretive else torch_stream(task.seed, "noise", task.client, task.turn)

    def _log_prior(self, task: Task, samples: Samples) -> Optional[Tensor]:
        if not (task.balanced or task.present_labels):
            return None
        counts = np.bincount(samples.y, minlength=task.shape.classes).tolist()
        return (log_class_shares(counts) if task.balanced else log_present(counts)).to(self.device)

    def _score(self, task: Task, model: FlatModel, received: Tensor) -> Result:
        if task.scoring is None:
            raise ValueError("a score task needs scoring settings")
        own = self._own(task).train
        order = numpy_stream(task.seed, "score", task.client, task.version).permutation(len(own.y))
        chosen = order[: task.scoring.samples]
        batches = list(evaluation_batches(Samples(own.x[chosen], own.y[chosen]), task.scoring.batch_size))
        generator = torch_stream(task.seed, "gates", task.client, task.version)
        scores = score_units(model, batches, task.scoring, task.keep, generator)
        return {"samples": len(own.y)}, scores_to_vector(scores)

    def _moments(self, task: Task, model: FlatModel, received: Tensor) -> Result:
        own = self._own(task).train
        return {"samples": len(own.y)}, sum_moments(model, own, task.training.batch_size)

    def _evaluate(self, task: Task, model: FlatModel, received: Tensor) -> Result:
        split, part = self.splits[task.split], slice(task.first, task.last)
        counts, losses = count_predictions(model, Samples(split.x[part], split.y[part]))
        return {"losses": losses}, counts.flatten().float()

    def _serve(self, task: Task, model: FlatModel, received: Tensor) -> Result:
        split, part = self.splits[task.split], slice(task.first, task.last)
        return {"samples": task.last - task.first}, answers(
            model,
            Samples(split.x[part], split.y[part]),
            task.training.batch_size if self._sparing else EVALUATION_BATCH,
        ).flatten()


def in_words(own: ClientSamples, words: Units, unknown: Optional[int]) -> ClientSamples:
    """Return a client's texts in the places that their words have among ``words``; see ``cosp.submodel.words``."""
    train, test = (Samples(recoded(part.x, words, unknown), part.y) for part in (own.train, own.test))
    return ClientSamples(train, test)


def variation_of(task: Task, model: FlatModel) -> Variation:
    """Return what ``task`` asks of local steps beside plain training, ``model`` holding the weights as received."""
    local = task.local
    if task.shape.variant != "plain":
        return Variation(passes=lambda judge: penalised_passes(task, model, judge))
    if local.view == "plain" and not local.proximal and not task.within:
        return PLAIN

    def passes(judge: Judge) -> Passes:
        narrower = [inside(model, task.shape, task.plan, plan) for plan in task.within]
        rng = numpy_stream(task.seed, "ratios", task.client, task.version)
        return ordered_passes(model.module, narrower, judge, distillation=local.distillation, rng=rng)

    view = view_of(task, model.weights.detach())
    return Variation(view=view, proximal=local.proximal, passes=passes if task.within else None)


def score_units(
    model: FlatModel,
    batches: List[Tuple[Tensor, Tensor]],
    settings: ScoreSettings,
    keep: float,
    generator: torch.Generator,
) -> Scores:
    """Return a score for every unit of the full-width ``model`` by the way that ``settings.how`` names."""
    if settings.how == "taylor":
        return taylor_scores(model.module, batches, settings.micro_batch)
    if settings.how == "magnitude":
        return magnitude_scores(model.module)
    if settings.how == "squared_gradient":
        return squared_gradient_scores(model.module, batches, settings.micro_batch)
    gates = GateSettings(
        keep=keep,
        learning_rate=settings.gate_learning_rate,
        epochs=settings.gate_epochs,
        penalty=settings.gate_penalty,
    )
    return learned_scores(model.module, batches, gates, generator, settings.micro_batch)


@torch.no_grad()
def count_predictions(
    model: FlatModel, samples: Samples, batch: int = EVALUATION_BATCH, log_prior: Optional[Tensor] = None
) -> Tuple[Tensor, List[float]]:
    """Return confusion counts (exits + 1, classes, classes) [which, true, predicted] and summed losses (exits + 1).

    The last entry is the mean of all exits' probabilities. ``log_prior`` (classes,) is added to every exit's logits.
    """
    classes, exits = model.module.shape.classes, len(model.module.exits)
    counts = torch.zeros(exits + 1, classes, classes, dtype=torch.int64)
    losses = torch.zeros(exits + 1, dtype=torch.float64)
    device = model.weights.device
    for x, y in evaluation_batches(samples, batch):
        logits = [z.float() for z in model.module(x.to(device))]
        logits = [(z if log_prior is None else z + log_prior).cpu() for z in logits]
        logs = [F.log_softmax(z, dim=-1) for z in logits] + [mean_prediction(logits).clamp_min(1e-12).log()]
        for i, log in enumerate(logs):
            losses[i] += F.nll_loss(log, y, reduction="sum").double()
            pairs = y * classes + log.argmax(-1)
            counts[i] += torch.bincount(pairs, minlength=classes**2).view(classes, classes)
    return counts, losses.tolist()


@torch.no_grad()
def answers(model: FlatModel, samples: Samples, batch: int = EVALUATION_BATCH) -> Tensor:
    """Return the logits of every exit, (samples, exits, classes), on the CPU."""
    device = model.weights.device
    batches = evaluation_batches(samples, batch)
    return torch.cat([torch.stack([z.float().cpu() for z in model.module(x.to(device))], 1) for x, _ in batches])


@torch.no_grad()
def _accuracy(model: FlatModel, samples: Samples, batch: int, log_prior: Optional[Tensor]) -> float:
    """Return the accuracy of the submodel's deepest exit, of which alone it is asked; see ``count_predictions``."""
    right = 0
    for x, y in evaluation_batches(samples, batch):
        logits = model.module.deepest(x.to(model.weights.device)).float()
        logs = F.log_softmax((logits if log_prior is None else logits + log_prior).cpu(), dim=-1)
        right += int((logs.argmax(-1) == y).sum())
    return right / max(1, len(samples.y))
