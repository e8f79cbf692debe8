"""The trackers' own libraries, on stores of this machine: every step once, also in a run that was resumed."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tracked_run import TrackedRun, killed_and_resumed, opening, version_rows

STEPS = [0, 1, 2, 3, 4]
DEEPEST = [0.0, 0.2, 0.4, 0.6, 0.8]

pytestmark = pytest.mark.filterwarnings("default")  # what the libraries say among themselves


def needs(library: str) -> None:
    pytest.importorskip(library, reason=f"{library} is not installed; pip install 'cosp[{library}]'")


def test_tensorboard(tmp_path: Path) -> None:
    needs("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = killed_and_resumed(tmp_path / "run", "tensorboard")
    events = EventAccumulator(str(run.folder / "track" / "tensorboard" / "run"))
    events.Reload()
    found = events.Scalars("accuracy/after_block_2")
    assert [event.step for event in found] == STEPS
    assert [event.value for event in found] == pytest.approx(DEEPEST)
    assert [event.value for event in events.Scalars("local_accuracy/after_block_2")] == [0.75] * 4
    assert [event.value for event in events.Scalars("staleness/mean")] == [0, 1, 2, 3]
    assert [event.step for event in events.Scalars("fleet/virtual_time_s")] == STEPS
    assert "figures/accuracy-rounds" in events.Tags()["images"]
    (config,) = events.Tensors("config/text_summary")
    assert b"method.name" in config.tensor_proto.string_val[0]


def test_two_runs_of_one_name_in_one_log_folder_stay_apart(tmp_path: Path) -> None:
    needs("tensorboard")
    for parent in ("a", "b"):
        TrackedRun(tmp_path / parent / "run", "tensorboard", place=str(tmp_path / "logs"))
    assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == ["run", "run-2"]


def test_mlflow(tmp_path: Path) -> None:
    needs("mlflow")
    from mlflow import MlflowClient

    run = killed_and_resumed(tmp_path / "run", "mlflow")
    client = MlflowClient(f"sqlite:///{run.folder}/track/mlflow/mlflow.db")
    (found,) = client.search_runs(["1"])
    steps = sorted((m.step, m.value) for m in client.get_metric_history(found.info.run_id, "accuracy/after_block_2"))
    assert [step for step, _ in steps] == STEPS
    assert [value for _, value in steps] == pytest.approx(DEEPEST)
    assert found.info.status == "FINISHED"
    assert found.data.params["server.versions"] == "60"
    assert {item.path for item in client.list_artifacts(found.info.run_id)} >= {"figures", "rows.jsonl", "report.html"}


def test_mlflow_takes_several_runs_in_one_place(tmp_path: Path) -> None:
    needs("mlflow")
    from mlflow import MlflowClient

    for name in ("a", "b"):
        TrackedRun(tmp_path / name, "mlflow", place=str(tmp_path / "all")).write(*opening(), *version_rows(1))
    runs = MlflowClient(f"sqlite:///{tmp_path}/all/mlflow.db").search_runs(["1"])
    assert sorted(run.info.run_name for run in runs) == ["a", "b"]


IN_A_PROCESS = """
import sys
from pathlib import Path
from tracked_run import killed_and_resumed
killed_and_resumed(Path(sys.argv[1]), sys.argv[2])
"""


def in_a_process(folder: Path, tracker: str) -> None:
    """Where a library takes its store from the environment as it is imported, or leaves threads behind."""
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(folder), tracker], check=True, env={**os.environ, "PYTHONPATH": path}
    )


def test_trackio(tmp_path: Path) -> None:
    needs("trackio")
    in_a_process(tmp_path / "run", "trackio")
    look = "import json, trackio; print(json.dumps(trackio.SQLiteStorage.get_logs('cosp', 'run')))"
    done = subprocess.run(
        [sys.executable, "-c", look], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TRACKIO_DIR": str(tmp_path / "run/track/trackio")},
    )  # fmt: skip
    logs = [row for row in json.loads(done.stdout) if "accuracy/after_block_2" in row]
    assert [row["step"] for row in logs] == STEPS
    assert [row["accuracy/after_block_2"] for row in logs] == pytest.approx(DEEPEST)


def wandb_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of an offline run's file: LevelDB's log format behind a head of seven bytes."""
    at, record = 7, b""
    while at < len(data):
        left = 32_768 - at % 32_768
        if left < 7:  # too little for a record's head: padding
            at += left
            continue
        _, length, part = struct.unpack_from("<IHB", data, at)
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if part in (1, 4):  # whole, or the last part
            yield record
            record = b""


def test_wandb(tmp_path: Path) -> None:
    needs("wandb")
    from wandb.proto import wandb_internal_pb2

    in_a_process(tmp_path / "run", "wandb")
    found = []
    for path in sorted((tmp_path / "run/track/wandb/wandb").glob("offline-run-*/*.wandb")):
        for data in wandb_records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
            if "accuracy/after_block_2" in items:
                found.append((int(items["_step"]), float(items["accuracy/after_block_2"])))
    found.sort()
    assert [step for step, _ in found] == STEPS
    assert [value for _, value in found] == pytest.approx(DEEPEST)
