"""The trained run whose boards are deployed: its model, each board's submodel, its data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cosp.checkpoints.own import Facts, final_model, read_boards, read_facts, read_state
from cosp.config import load_config
from cosp.errors import ConfigError, UserError
from cosp.experiment import Experiment, load_experiment
from cosp.run.directory import trained_config_of
from cosp.submodel.layout import Layout
from cosp.submodel.plan import SubmodelPlan
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import State


@dataclass(frozen=True, kw_only=True)
class Deployed:
    """``state`` is the whole model as the run left it; ``plans`` are the submodels that boards hold, by client."""

    path: Path
    facts: Facts
    state: State
    plans: Mapping[int, SubmodelPlan]
    experiment: Experiment

    @cached_property
    def layout(self) -> Layout:
        return layout_of(self.facts.shape)

    def exit_of(self, plan: SubmodelPlan) -> int:
        """Return which exit of ``plan``'s answers, as an index: the one that validation chose, else its deepest."""
        exits = self.facts.shape.exits_within(plan.depth)
        chosen = self.facts.chosen_exit
        return exits.index(chosen) if chosen in exits else len(exits) - 1


def open_deployed(path: Path, *, data_dir: Path | None) -> Deployed:
    """Return the run at ``path`` as it is deployed; ConfigError or UserError if it holds no model, or none for boards.

    A board that would have had to score its units before its next task has no submodel, and none is deployed on it.
    """
    if not path.exists():
        raise ConfigError(f"model.pretrained: {path} is not there; give the directory of a run that has ended")
    folder = final_model(path)
    facts = read_facts(folder / "cosp.json")
    if facts.shape.variant != "plain":
        raise UserError(
            f"{path}: its blocks are {facts.shape.variant}, of method {facts.method}: only plain ones are adapted"
        )
    plans = {client: board.plan for client, board in read_boards(folder, facts.shape).items() if board.plan is not None}
    if not plans:
        raise UserError(f"{path}: no board of it holds a submodel; give a run whose boards train some")
    experiment = load_experiment(load_config(trained_config_of(path)), data_dir=data_dir)
    return Deployed(path=path, facts=facts, state=read_state(folder), plans=plans, experiment=experiment)
