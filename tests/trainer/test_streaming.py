"""What a board does that serves: in this process, and in a trainer's of its own over its socket."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from flwr.app import Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity
from PIL import Image
from postal import posted
from small_models import SMALL, random_state

from cosp.adaptation.answers import Answers
from cosp.adaptation.asked import Ask, ask_from_json, ask_to_json
from cosp.adaptation.download import DownloadSettings, Held, change_message, form_of, received, whole_message
from cosp.adaptation.posted import Model, Post, Scale, UpSettings
from cosp.adaptation.tokens import TokenSettings
from cosp.adaptation.upload import Seen
from cosp.adaptation.upward import from_bytes, report_of, to_bytes
from cosp.errors import CospError, UserError
from cosp.flower.client_app import app
from cosp.models.transformer import Transformer
from cosp.recipe import Recipe
from cosp.seeds import numpy_stream
from cosp.submodel.flat import flatten, spans_of
from cosp.submodel.shape import layout_of
from cosp.submodel.slicing import extract
from cosp.task.task import Task
from cosp.trainer.hand_over import describe, hand_ask
from cosp.trainer.protocol import TrainerError
from cosp.trainer.samples import ClientSamples, Samples
from cosp.trainer.store import BoardStore, write_board_store
from cosp.trainer.stream import Pictures, open_stream
from cosp.trainer.streaming import Streaming
from cosp.trainer.trainer import Trainer
from cosp.wire.served import read_served, serve_request

ROOT = Path(__file__).resolve().parents[2]
START_S = 60.0
RECIPE = Recipe(("a", "b", "c"), (1, 4, 4), mean=(100.0,), std=(50.0,), white=255.0)
TASK = Task("serve", 1, 0, 0, 7, SMALL, SMALL.full_plan(), split="stream")
ASK = Ask(TASK, "run", 0, 8, 1, UpSettings(rule="random", samples=2), DownloadSettings(share=1.0))
LAYOUT = layout_of(SMALL)
FORM = form_of(LAYOUT, TASK.spans, ASK.download)
RAW = np.random.default_rng(0).integers(0, 256, (20, 4, 4), dtype=np.uint8)
LABELS = np.arange(20) % 3


def weights(seed: int = 0) -> np.ndarray:
    found = flatten(extract(random_state(SMALL), LAYOUT, TASK.plan), spans_of(LAYOUT, TASK.plan.counts)).numpy()
    return found + np.float32(0.01) * np.random.default_rng(seed).normal(size=found.shape).astype(np.float32)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    np.savez(tmp_path / "stream.npz", x=RAW, y=LABELS, classes=np.array(RECIPE.classes))
    return tmp_path / "stream.npz"


def streaming(source: Path) -> Streaming:
    return Streaming(Trainer({}, {}, device="cpu", sparing=True), open_stream(source, RECIPE), RECIPE)


def test_an_ask_travels() -> None:
    ask = replace(ASK, upload=UpSettings(rule="tail", tokens=TokenSettings(how="norm", after=1)))
    assert ask_from_json(ask_to_json(ask)) == ask


def test_a_board_answers_what_came_in_the_bytes_of_a_simulated_one(source: Path) -> None:
    board = streaming(source)
    first = whole_message(0, weights())
    facts, found = board.serve(ASK, first)
    assert (facts["has"], facts["place"], facts["samples"], len(found)) == (0, 0, 0, 0)  # nothing to answer with

    facts, found = board.serve(replace(ASK, place=0), b"")
    held = received(first, None, FORM)
    x = ((RAW[:8, None].astype(np.float64) - 100) / 50).astype(np.float32)
    module = Transformer(SMALL, TASK.plan)
    module.load_state_dict({name: held_tensor(held, name) for name in LAYOUT})
    with torch.no_grad():
        logits = torch.stack(module(torch.from_numpy(x)), 1).numpy()
    answers = Answers(logits, ASK.exit, np.arange(8))
    post = Post(ASK.upload, Scale("images", (100.0,), (50.0,), 255.0), SMALL)
    model = Model(TASK.plan, torch.from_numpy(held.weights))
    choice, _, payload = post.chosen(answers, x, model, Seen(), numpy_stream(7, "choice", 1, 0))
    assert len(choice.rows) == 2
    (sent,) = post.read(payload)
    assert np.abs(sent.batch.x.numpy() - x[choice.rows]).max() < 1e-5  # pixels of 8 bits come as they were
    expected = report_of(answers, 0, payload)
    report = from_bytes(found.tobytes(), 3)
    assert report.payload == payload
    assert (report.version, report.samples) == (0, 8)
    assert report.predicted.tolist() == expected.predicted.tolist()
    assert report.uncertainty == pytest.approx(expected.uncertainty, abs=1e-6)
    assert len(found) == len(to_bytes(expected))
    assert facts["right"] == int((answers.predicted == LABELS[:8]).sum())
    assert (facts["has"], facts["place"]) == (0, 8)


def held_tensor(held: Held, name: str) -> torch.Tensor:
    span = TASK.spans[name]
    return torch.from_numpy(held.weights[span.start : span.stop]).view(tuple(span.shape))


def test_what_came_before_a_set_is_answered_by_the_one_before(source: Path) -> None:
    board = streaming(source)
    held = received(whole_message(0, weights()), None, FORM)
    board.serve(ASK, whole_message(0, weights()))
    change = change_message(held, 1, weights(5), FORM, 10_000)
    assert change is not None
    facts, found = board.serve(ASK, change)
    assert (facts["has"], from_bytes(found.tobytes(), 3).version) == (1, 0)
    _, found = board.serve(ASK, b"")
    assert from_bytes(found.tobytes(), 3).version == 1


def test_a_change_of_what_is_not_here_is_not_taken_and_the_whole_mends_it(source: Path) -> None:
    held = received(whole_message(3, weights()), None, FORM)
    change = change_message(held, 4, weights(5), FORM, 10_000)
    assert change is not None
    board = streaming(source)
    facts, found = board.serve(replace(ASK, place=8), change)
    assert (facts["has"], facts["place"], len(found)) == (None, 8, 0)
    board.serve(replace(ASK, place=8), whole_message(4, weights()))
    facts, _ = board.serve(replace(ASK, place=8), b"")
    assert (facts["has"], facts["place"]) == (4, 16)  # it goes on where the server knows it to be


def test_another_run_begins_anew_and_a_stream_ends(source: Path) -> None:
    board = streaming(source)
    board.serve(ASK, whole_message(0, weights()))
    places = [board.serve(ASK, b"")[0]["place"] for _ in range(4)]
    assert places == [8, 16, 20, 20]
    assert board.serve(ASK, b"")[0]["samples"] == 0
    facts, _ = board.serve(replace(ASK, run="another"), b"")
    assert (facts["has"], facts["place"]) == (None, 0)


def test_a_folder_is_served_by_name_and_grows_and_what_is_being_written_has_not_come(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for i in (2, 0, 1):
        Image.fromarray(RAW[i]).save(tmp_path / f"shot-{i}.png")
    (tmp_path / "shot-3.png").write_bytes(b"\x89PNG half")
    (tmp_path / "notes.txt").write_text("no picture")
    folder = Pictures(tmp_path, RECIPE)
    came = folder.since(0, 2)
    assert np.allclose(came.x[:, 0] * 50 + 100, RAW[:2], atol=1e-3)
    came = folder.since(came.place, 2)
    assert (len(came.x), came.place) == (1, 3)
    assert capsys.readouterr().err == ""
    Image.fromarray(RAW[4]).save(tmp_path / "shot-4.png")
    came = folder.since(came.place, 2)
    assert (len(came.x), came.place) == (1, 5)
    assert "passed over: shot-3.png" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"x": np.zeros((3, 5, 4))}, "samples are (5, 4), the model reads images of (4, 4, 1)"),
        ({"x": np.full((3, 4, 4), np.nan)}, "holds NaN or infinity"),
        ({"z": np.zeros(3)}, "is no folder of images and no .npz with x"),
        ({"x": np.zeros((3, 4, 4)), "y": np.zeros(2)}, "y must be a label each"),
        ({"x": np.zeros((3, 4, 4)), "y": np.array(["a", "b", "dog"])}, "class 'dog' is none of the run's: a, b, c"),
    ],
)
def test_a_stream_that_cannot_be_served_is_one_line(tmp_path: Path, arrays: dict[str, np.ndarray], said: str) -> None:
    np.savez(tmp_path / "stream.npz", **arrays)
    with pytest.raises(UserError) as error:
        open_stream(tmp_path / "stream.npz", RECIPE)
    assert said in str(error.value)
    assert str(error.value).startswith(f"--stream {tmp_path / 'stream.npz'}: ")


@pytest.fixture(scope="module", params=[True, False], ids=["with a stream", "without"])
def trainer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bool]]:
    folder = tmp_path_factory.mktemp("board")
    own = Samples(np.zeros((4, 1, 4, 4), np.float32), np.array([0, 1, 2, 0]))
    write_board_store(folder / "store", BoardStore(ClientSamples(own, own), RECIPE))
    np.savez(folder / "stream.npz", x=RAW)
    command = [sys.executable, "-m", "cosp.trainer", "--data", str(folder / "store"), "--threads", "1"]
    command += ["--socket", str(folder / "trainer.sock"), *(["--stream", str(folder / "stream.npz")] * request.param)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    describe(folder / "trainer.sock", wait_s=START_S)
    yield folder, request.param
    process.terminate()
    process.wait(START_S)


def test_a_trainer_serves_what_its_owner_gave_and_nothing_else(trainer: tuple[Path, bool]) -> None:
    folder, given = trainer
    log = (folder / "log").read_text()
    assert describe(folder / "trainer.sock")["serves"] is given
    assert (f"serves the stream {folder / 'stream.npz'}: samples of it leave this board" in log) is given
    if not given:
        with pytest.raises(TrainerError, match="refused: this board serves no stream, as its owner gave none"):
            hand_ask(folder / "trainer.sock", ask_to_json(ASK), b"")
        return
    facts, found = hand_ask(folder / "trainer.sock", ask_to_json(ASK), whole_message(0, weights()))
    assert (facts["has"], facts["recipe"], len(found)) == (0, RECIPE.mark, 0)
    facts, found = hand_ask(folder / "trainer.sock", ask_to_json(ASK), b"")
    report = from_bytes(found.tobytes(), 3)
    assert (facts["samples"], report.samples, facts["place"]) == (8, 8, 8)
    assert facts["wall_s"] > 0
    assert "right" not in facts  # nobody labelled them
    with pytest.raises(TrainerError, match="refused: the task cannot be read"):
        hand_ask(folder / "trainer.sock", ask_to_json(replace(ASK, exit=9)), b"")
    with pytest.raises(CospError, match="failed"):
        hand_ask(folder / "trainer.sock", ask_to_json(ASK), b"\x01\x02")
    facts, _ = hand_ask(folder / "trainer.sock", ask_to_json(ASK), b"")
    assert facts["place"] == 16  # what failed changed nothing


def test_a_node_hands_the_question_to_its_trainer(trainer: tuple[Path, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, given = trainer
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    ask = replace(ASK, run="by a node")
    post = Post(ASK.upload, Scale("images", (100.0,), (50.0,), 255.0), SMALL)

    def answer(message: bytes, **node: int | str) -> Message:
        request = serve_request(ask, message, node=5)
        request.metadata.__dict__["_message_id"] = "m"
        config = {"partition-id": 1, "trainer-socket": str(folder / "trainer.sock"), **node}
        context = Context(run_id=1, node_id=5, node_config=config, state=RecordDict(), run_config={})
        return app(posted(request), context)

    if not given:
        with pytest.raises(TrainerError, match="this board serves no stream"):
            answer(b"")
        return
    assert read_served(posted(answer(whole_message(0, weights()))), ask, post).facts.has == 0
    served = read_served(posted(answer(b"")), ask, post)
    assert served.report is not None
    assert served.report.samples == 8
    assert sum(len(part.rows) for part in served.uploads) == 2
    assert "2 of 8 samples leave this board" in (folder / "log").read_text()
    with pytest.raises(CospError, match="client 2 was sent the task of client 1"):
        answer(b"", **{"partition-id": 2})


def test_a_node_without_a_trainer_serves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_run_id", "_node_id", "_task_id"):
        monkeypatch.setattr(TaskIdentity, name, 1)
    context = Context(run_id=1, node_id=5, node_config={"partition-id": 1}, state=RecordDict(), run_config={})
    with pytest.raises(CospError, match="a node without a trainer serves no stream"):
        app(posted(serve_request(ASK, b"", node=5)), context)
