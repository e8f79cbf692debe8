"""A trainer as a real process, and real callers over its socket."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from small_models import SMALL, random_state
from torch import Tensor
from waiting import until

from cosp.errors import CospError, UserError
from cosp.recipe import Recipe
from cosp.server.contents import Contents
from cosp.submodel.flat import flatten, spans_of, views
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.bits import from_bits
from cosp.task.compression import CompressionSettings
from cosp.task.contents import content_of
from cosp.task.cut import Cut
from cosp.task.demand import upload_bytes
from cosp.task.local import LocalSettings
from cosp.task.scoring import ScoreSettings
from cosp.task.sent import to_bytes
from cosp.task.serial import task_to_json
from cosp.task.task import Beside, Task
from cosp.task.training import TrainSettings
from cosp.trainer.daemon import MOST_SILENT, check_folder, rights
from cosp.trainer.hand_over import describe, hand_over
from cosp.trainer.protocol import (
    FRAME_LIMIT_BYTES,
    PROTOCOL,
    ConnectionLost,
    ProtocolError,
    TrainerError,
    receive_answer,
    receive_bytes,
    receive_frame,
    send_frame,
    shake_hands,
)
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store
from cosp.trainer.trainer import Trainer

ROOT = Path(__file__).resolve().parents[2]
LAYOUT = layout_of(SMALL)
TRAIN = Task("train", 7, 3, 0, 1, SMALL, SMALL.full_plan(2), training=TrainSettings(epochs=1, batch_size=4))
SCORE = replace(TRAIN, kind="score", scoring=ScoreSettings(samples=6, batch_size=4))
MOMENTS = replace(TRAIN, kind="moments")
ENDLESS = replace(TRAIN, training=TrainSettings(epochs=10**6, batch_size=4))
START_S = 60.0


def samples(count: int, seed: int) -> Samples:
    rng = np.random.default_rng(seed)
    return Samples(rng.normal(size=(count, 1, 4, 4)).astype(np.float32), rng.integers(0, 3, count))


OWN = ClientSamples(samples(10, 0), samples(4, 1))


def weights_of(task: Task) -> Tensor:
    return flatten(extract(random_state(SMALL), LAYOUT, task.plan), spans_of(LAYOUT, task.plan.counts))


def do(path: Path, task: Task, *, wait_s: float = 0.0) -> tuple[dict[str, object], np.ndarray]:
    return hand_over(path, task_to_json(task), weights_of(task).numpy(), wait_s=wait_s)


class TrainerProcess:
    """``python -m cosp.trainer`` on ten samples."""

    def __init__(self, folder: Path, *flags: str) -> None:
        self.path = folder / "run" / "trainer.sock"
        self._command = [
            sys.executable,
            "-m",
            "cosp.trainer",
            "--data",
            str(folder / "store"),
            "--socket",
            str(self.path),
        ]
        self._command += ["--threads", "1", *flags]
        self.start()

    def start(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
        self.process = subprocess.Popen(self._command, env=environment, stderr=subprocess.PIPE, text=True)

    def end(self, number: int) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=START_S)
        return self.process.returncode


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("board")
    write_board_store(folder / "store", BoardStore(OWN, Recipe(("a", "b", "c"), OWN.train.x.shape[1:])))
    return folder


@pytest.fixture(scope="module")
def trainer(store: Path) -> Iterator[TrainerProcess]:
    process = TrainerProcess(store)
    describe(process.path, wait_s=START_S)
    yield process
    process.end(signal.SIGKILL)


def call(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)  # without a timeout, it waits in line
    connection.connect(str(path))
    connection.settimeout(START_S)
    return connection


def begin(path: Path, task: Task) -> socket.socket:
    """Return a connection over which ``task`` has begun."""
    connection = call(path)
    shake_hands(connection)
    send_frame(connection, {"do": "task", "task": task_to_json(task)})
    receive_answer(connection)
    connection.sendall(weights_of(task).numpy())
    return connection


def test_frozen_tensors_are_kept_between_tasks(trainer):
    frozen = replace(TRAIN, training=replace(TRAIN.training, frozen=("blocks: 1",)))
    weights = flatten(extract(random_state(SMALL), LAYOUT, frozen.plan), frozen.spans)
    first = hand_over(trainer.path, task_to_json(frozen), weights.numpy(), wait_s=START_S)[1]
    tensors = {name: tensor for name, tensor in views(weights, frozen.spans).items() if name in frozen.frozen_spans}
    again = replace(frozen, kept=tuple((name, content_of(tensor)) for name, tensor in tensors.items()))
    assert len(first) == again.sent == frozen.trained < frozen.parameters
    sent = weights[-again.sent :].numpy()
    assert np.array_equal(hand_over(trainer.path, task_to_json(again), sent)[1], first)
    other = replace(again, kept=tuple((name, "0" * 32) for name in tensors))
    with pytest.raises(TrainerError, match="refused: .* is not kept here"):
        hand_over(trainer.path, task_to_json(other), sent)


def test_frozen_halves_come_as_bytes_and_are_kept(trainer):
    training = replace(TRAIN.training, frozen=("blocks: 1",), frozen_as="bfloat16")
    first = replace(TRAIN, training=training, compression=CompressionSettings(down="float16"))
    state = random_state(SMALL)
    again = replace(first, kept=tuple(Contents().of(first, state).items()))
    found = []
    for task in (first, again):
        sent = to_bytes(task, Cut(state, LAYOUT, task))
        assert sent.nbytes == 2 * task.sent
        found.append(hand_over(trainer.path, task_to_json(task), sent, wait_s=START_S)[1])
    assert np.array_equal(*found)
    weights = flatten(Cut(state, LAYOUT, first), first.spans)
    assert np.array_equal(found[0], Trainer({7: OWN}, {}).run(first, weights)[1].numpy())
    with pytest.raises(CospError, match=f"the task starts from {2 * first.sent} bytes, the server sent 3"):
        hand_over(trainer.path, task_to_json(first), np.zeros(3, np.uint8), wait_s=START_S)


def test_a_board_says_what_it_has(trainer):
    found = describe(trainer.path)
    assert (found["samples"], found["test_samples"], found["recipe"]["sample_shape"]) == (10, 4, [1, 4, 4])
    assert found["class_counts"] == np.bincount(OWN.train.y, minlength=3).tolist()
    assert found["memory_bytes"] > 1e8
    assert found["busy"] is False


def test_only_its_user_and_group_may_call_a_trainer(trainer):
    assert stat.S_IMODE(trainer.path.stat().st_mode) == 0o660


def not_measured(facts):
    return {key: value for key, value in facts.items() if not key.startswith("wall_")}


@pytest.mark.parametrize("task", [TRAIN, SCORE, MOMENTS])
def test_a_task_over_the_socket_gives_the_bits_that_it_gives_in_process(trainer, task):
    expected, vector = Trainer({7: OWN}, {}).run(task, weights_of(task))
    facts, found = do(trainer.path, task)
    assert found.tobytes() == vector.numpy().tobytes()
    assert len(str(facts.pop("recipe"))) == 16  # whose data they are, which the server knows by then
    assert not_measured(facts) == not_measured(expected)
    assert facts.keys() >= expected.keys()  # what is since the task before, a trainer that is new does not tell


def test_a_mask_leaves_a_board_as_bits(trainer):
    task = replace(TRAIN, local=LocalSettings(view="fedpm"))
    _, bits = do(trainer.path, task)
    assert (bits.dtype, bits.nbytes) == (np.uint8, upload_bytes(task))
    _, mask = Trainer({7: OWN}, {}).run(task, weights_of(task))
    assert torch.equal(from_bits(task, bits), mask)


def test_two_hundred_callers_who_say_nothing_keep_nobody_out(trainer):
    with ExitStack() as opened:
        idle = [opened.enter_context(closing(call(trainer.path))) for _ in range(200)]
        do(trainer.path, TRAIN, wait_s=START_S)
        until(lambda: sum(map(has_been_hung_up, idle)) >= 200 - MOST_SILENT)
        assert describe(trainer.path)["busy"] is False
    threads = psutil.Process(trainer.process.pid).num_threads
    until(lambda: threads() < MOST_SILENT)


def has_been_hung_up(connection: socket.socket) -> bool:
    connection.setblocking(False)
    try:
        while chunk := connection.recv(4096):
            assert chunk  # the trainer's hello
    except BlockingIOError:
        return False
    return True


def test_half_a_task_is_given_up_by_whoever_sent_it(trainer):
    with closing(call(trainer.path)) as connection:
        shake_hands(connection)
        send_frame(connection, {"do": "task", "task": task_to_json(TRAIN)})
        receive_answer(connection)
        connection.sendall(weights_of(TRAIN).numpy()[:5])
        with pytest.raises(CospError, match="busy"):
            do(trainer.path, TRAIN)
    do(trainer.path, TRAIN, wait_s=START_S)


def test_weights_that_drip_in_are_not_waited_for_for_ever():
    ours, theirs = socket.socketpair()
    dripping = threading.Event()

    def drip() -> None:
        while not dripping.wait(0.05):
            theirs.send(b"x")

    thread = threading.Thread(target=drip)
    thread.start()
    try:
        ours.settimeout(START_S)
        with pytest.raises(ConnectionLost, match=r"of 1000 bytes had not come after 0 s|timed out"):
            receive_bytes(ours, 1000, within_s=0.3)
    finally:
        dripping.set()
        thread.join()
        ours.close(), theirs.close()


def test_a_new_folder_of_a_socket_can_be_entered_by_its_group(trainer):
    assert stat.S_IMODE(trainer.path.parent.stat().st_mode) == 0o750


def test_who_may_call_is_told(trainer):
    owner = f"{os.getuid()}:{os.getgid()}"
    assert rights(trainer.path) == f"srw-rw---- {owner}, in {trainer.path.parent} drwxr-x--- {owner}"


def test_a_folder_where_anybody_may_replace_the_socket_is_refused(tmp_path):
    folder = tmp_path / "open"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(UserError, match=rf"anybody may replace files in {folder} \(drwxrwxrwx\).*: chmod o-w"):
        check_folder(folder / "t.sock")
    folder.chmod(0o1777)  # as /tmp: files are their owners'
    check_folder(folder / "t.sock")


def test_a_task_gone_wrong_is_told_and_survived(trainer):
    with pytest.raises(TrainerError, match="scoring settings"):
        do(trainer.path, replace(SCORE, scoring=None))
    do(trainer.path, TRAIN)


def test_one_task_at_a_time(trainer):
    with closing(begin(trainer.path, ENDLESS)):
        until(lambda: describe(trainer.path)["busy"])
        with pytest.raises(CospError, match="busy: the trainer works for somebody else"):
            do(trainer.path, TRAIN)
    do(trainer.path, TRAIN, wait_s=START_S)


def test_a_caller_killed_in_the_middle_cancels_its_task(trainer, store):
    finished = describe(trainer.path)["finished"]
    script = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
import test_daemon
connection = test_daemon.begin(Path({str(trainer.path)!r}), test_daemon.ENDLESS)
print("begun", flush=True)
connection.recv(1)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}
    caller = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment, text=True)
    assert caller.stdout is not None
    assert caller.stdout.readline() == "begun\n"
    caller.kill()
    caller.communicate()
    do(trainer.path, TRAIN, wait_s=START_S)
    assert describe(trainer.path)["finished"] == finished + 1
    assert trainer.process.poll() is None


@pytest.mark.parametrize(
    ("task", "says"),
    [
        ("{}", "the task cannot be read"),
        (task_to_json(replace(TRAIN, beside=(Beside(8, 0, TRAIN.plan),))), "it is many clients'"),
        (task_to_json(replace(TRAIN, shape=replace(SMALL, channels=3))), r"samples of shape \[3, 4, 4\] and 3 classes"),
        (task_to_json(replace(TRAIN, shape=replace(SMALL, classes=9))), "and 9 classes, this board has"),
    ],
)
def test_a_task_that_does_not_suit_the_board_is_refused_before_any_weights_come(trainer, task, says):
    with pytest.raises(TrainerError, match=says) as refused:
        hand_over(trainer.path, task, np.zeros(1, np.float32), wait_s=0.0)
    assert refused.value.code == "refused"


def test_too_few_weights_never_reach_the_trainer(trainer):
    with pytest.raises(CospError, match=rf"starts from {TRAIN.parameters} weights, the server sent 3"):
        hand_over(trainer.path, task_to_json(TRAIN), np.zeros(3, np.float32), wait_s=0.0)
    do(trainer.path, TRAIN, wait_s=START_S)


def test_another_protocol_is_told_apart(trainer):
    with closing(call(trainer.path)) as connection:
        send_frame(connection, {"protocol": PROTOCOL + 1, "cosp": "9.9"})
        assert receive_frame(connection)["protocol"] == PROTOCOL
        with pytest.raises(ConnectionLost):
            receive_frame(connection)
    ours, theirs = socket.socketpair()
    send_frame(theirs, {"protocol": PROTOCOL + 1, "cosp": "9.9"})
    with pytest.raises(ProtocolError, match=rf"speaks protocol {PROTOCOL + 1} \(cosp 9.9\)"):
        shake_hands(ours)
    ours.close(), theirs.close()


@pytest.mark.parametrize(
    "nonsense", [b"GET / HTTP/1.1\r\n\r\n", (FRAME_LIMIT_BYTES + 1).to_bytes(4, "big"), b"\0\0\0\2[]"]
)
def test_nonsense_ends_the_connection_and_nothing_else(trainer, nonsense):
    with closing(call(trainer.path)) as connection:
        receive_frame(connection)
        connection.sendall(nonsense)
        with pytest.raises(ConnectionLost):
            receive_frame(connection)
    do(trainer.path, TRAIN)


def test_more_weights_than_the_limit_are_refused(tmp_path, store):
    (tmp_path / "store").symlink_to(store / "store")
    limit = 4 * TRAIN.parameters - 1
    process = TrainerProcess(tmp_path, "--limit-bytes", str(limit))
    describe(process.path, wait_s=START_S)
    with pytest.raises(TrainerError, match=rf"have {limit + 1} bytes, this trainer takes {limit}"):
        do(process.path, TRAIN)
    assert process.end(signal.SIGTERM) == 0
    assert not process.path.exists()


def test_a_trainer_killed_over_a_task_is_noticed_and_its_successor_takes_the_socket(tmp_path, store):
    (tmp_path / "store").symlink_to(store / "store")
    process = TrainerProcess(tmp_path)
    describe(process.path, wait_s=START_S)
    with closing(begin(process.path, ENDLESS)) as connection:
        process.end(signal.SIGKILL)
        with pytest.raises(ConnectionLost):
            receive_answer(connection)
    with pytest.raises(CospError, match="no trainer listens"):
        do(process.path, TRAIN)
    process.start()
    do(process.path, TRAIN, wait_s=START_S)
    again = subprocess.run(
        process._command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert (again.returncode, "a trainer is listening there already" in again.stderr) == (2, True)
    process.end(signal.SIGTERM)


def test_health_is_an_exit_code_and_a_json_object(trainer, tmp_path):
    ask = partial(subprocess.run, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    command = [sys.executable, "-m", "cosp.trainer", "--health", "--socket"]
    well = ask([*command, str(trainer.path)])
    assert (well.returncode, json.loads(well.stdout)["samples"]) == (0, 10)
    assert ask([*command, str(tmp_path / "none.sock")]).returncode == 1


def test_a_board_without_a_store_is_told_how_to_make_one(tmp_path):
    command = [sys.executable, "-m", "cosp.trainer", "--data", str(tmp_path), "--socket", str(tmp_path / "s")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2
    assert "holds no board's store" in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_that_is_no_socket_is_kept(tmp_path, store):
    own = tmp_path / "notes.txt"
    own.write_text("precious")
    words = [sys.executable, "-m", "cosp.trainer", "--data", str(store / "store"), "--socket", str(own)]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, own.read_text()) == (2, "precious")
    assert f"{own}: is no socket, and is not replaced; give another --socket" in done.stderr


def test_who_handed_the_task_over_is_told_that_the_trainer_died_and_where_to_look(tmp_path, store):
    (tmp_path / "store").symlink_to(store / "store")
    process = TrainerProcess(tmp_path)
    describe(process.path, wait_s=START_S)
    killer = threading.Thread(
        target=lambda: (until(lambda: describe(process.path)["busy"]), process.end(signal.SIGKILL))
    )
    killer.start()
    with pytest.raises(ConnectionLost, match=r"the trainer at .* died over the task, .*`dmesg` says why; .* --keep"):
        do(process.path, ENDLESS)
    killer.join()
