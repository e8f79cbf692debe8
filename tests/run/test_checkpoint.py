"""What a checkpoint says of the run that it belongs to."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cosp.config import Config, load_config
from cosp.errors import UserError
from cosp.run.checkpoint import FREE_ON_BOARDS, Checkpoint

CONFIG = load_config(Path("experiments/quickstart.yaml"))


def begun_with(config: Config) -> Checkpoint:
    facts: dict[str, Any] = {"config": config.model_dump(mode="json", exclude={"versions"})}
    return Checkpoint(Path("run/checkpoint/state-000002.json"), {}, facts)


def changed(**server: Any) -> Config:
    return CONFIG.model_copy(update={"server": CONFIG.server.model_copy(update=server)})


def test_a_run_may_end_later_and_be_written_down_by_other_libraries() -> None:
    now = changed(versions=9, until_s=3.0).model_copy(update={"versions": {"torch": "99"}})
    begun_with(CONFIG).check_config(now)


def test_only_real_boards_may_be_waited_for_otherwise() -> None:
    patient = changed(task_timeout_s=60.0)
    begun_with(CONFIG).check_config(patient, free=FREE_ON_BOARDS)
    said = "run: cannot go on: server.task_timeout_s was None when the run began and is 60.0 now; put it back"
    with pytest.raises(UserError, match=re.escape(said)):
        begun_with(CONFIG).check_config(patient)


def test_a_checkpoint_without_settings_is_of_an_older_cosp() -> None:
    old = Checkpoint(Path("run/checkpoint/state-000002.json"), {}, {})
    with pytest.raises(UserError, match="of an older cosp, without 'config'; start the run anew"):
        old.check_config(CONFIG)


def test_a_key_that_an_older_cosp_did_not_have_is_as_its_default_says() -> None:
    begun = begun_with(CONFIG)
    del begun.facts["config"]["method"]["budget"]
    begun.check_config(CONFIG)
    other = CONFIG.model_copy(update={"method": CONFIG.method.model_copy(update={"budget": "flops"})})
    with pytest.raises(UserError, match=r"method.budget was 'parameters' when the run began and is 'flops' now"):
        begun.check_config(other)
