"""The trainer process: data, model code and CUDA stay warm, tasks come in through a Unix socket.

Flower starts a fresh process for every task; importing torch and opening CUDA there costs seconds each time. This one
stays, needs Python 3.8, torch and numpy, and outlives whoever calls it. Who may open the socket may have it train; the
file's mode says who that is.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import socket
import socketserver
import stat
import sys
import threading
from collections import defaultdict
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np
import torch

import cosp
from cosp.adaptation.asked import Ask, ask_from_json
from cosp.errors import UserError
from cosp.recipe import Recipe
from cosp.submodel.plan import Units
from cosp.submodel.words import words_in
from cosp.task.payload import to_payload
from cosp.task.sent import in_bytes, sent_bytes
from cosp.task.serial import task_from_json
from cosp.task.task import Task
from cosp.trainer.kept import Kept, NotKept
from cosp.trainer.power import find_power_meter
from cosp.trainer.protocol import (
    BUSY,
    CANCELLED,
    FAILED,
    FLOAT_BYTES,
    REFUSED,
    ConnectionLost,
    ProtocolError,
    TrainerError,
    count_in,
    receive_bytes,
    receive_frame,
    send_bytes,
    send_frame,
    shake_hands,
)
from cosp.trainer.store import open_board_store
from cosp.trainer.stream import open_stream
from cosp.trainer.streaming import Streaming
from cosp.trainer.trainer import Trainer
from cosp.trainer.vitals import Vitals
from cosp.trainer.workbench import Bench, Job

MOST_BYTES = 4 << 30
"""Weights of one task, unless told otherwise."""
WATCH_S = 0.05
"""How often it is seen whether the caller of a task is still there."""
PATIENCE_S = 30.0
"""How long a caller may stay silent while it is its turn to speak."""
SLOWEST_BYTES_PER_S = 1e6
"""At which weights come at least; whoever is slower, on one machine, holds the trainer from others."""
MOST_SILENT = 32
"""Callers that have not asked anything yet; one more, and the one that has been silent longest must go."""
SOCKET_MODE = 0o660
FOLDER_MODE = 0o750
DETAIL_CHARACTERS = 4000
"""The end of a trace, where its cause stands."""


def serve_trainer(
    data: Path,
    path: Path,
    *,
    threads: Optional[int] = None,
    most_bytes: int = MOST_BYTES,
    stream: Optional[Path] = None,
) -> None:
    """Serve tasks on the board's data in the store ``data`` at the socket ``path`` until terminated.

    ``stream``: what of the board's is answered for a server that asks, samples of which leave the board then.
    """
    store = open_board_store(data)
    comes = None if stream is None else open_stream(stream, store.recipe)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    own = store.samples
    bench = Bench(
        Trainer(defaultdict(lambda: own), {}, find_power_meter(), vitals=Vitals(), secretive=True, sparing=True)
    )  # whatever number the server gives this board: its data are these
    server = _listen(path, bench, most_bytes)
    server.streaming = None if comes is None else Streaming(bench.trainer, comes, store.recipe)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    server.mark = store.recipe.mark
    server.about = about(own.train.y, own.test.y, store.recipe, bench.trainer.device)
    server.about["serves"] = stream is not None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(
        f"trainer: {len(own.train.y)} samples, {bench.trainer.device}, listening at {path} ({rights(path)})",
        file=sys.stderr,
        flush=True,
    )
    if stream is not None:
        print(
            f"trainer: serves the stream {stream}: samples of it leave this board when the server asks for them",
            file=sys.stderr,
            flush=True,
        )
    try:
        bench.work()
    finally:
        server.shutdown()
        server.server_close()
        path.unlink()


def about(labels: np.ndarray, held_back: np.ndarray, recipe: Recipe, device: torch.device) -> Dict[str, Any]:
    """Return what a trainer says of its board: data and how they were made, memory, software."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if device.type == "cuda":
        memory_bytes = torch.cuda.get_device_properties(device).total_memory
    return {
        "samples": len(labels),
        "test_samples": len(held_back),
        "class_counts": np.bincount(labels, minlength=len(recipe.classes)).tolist(),
        "recipe": asdict(recipe),
        "memory_bytes": memory_bytes,
        "device": str(device),
        "cosp": cosp.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    """Accepts callers, each in a thread of its own."""

    daemon_threads = True
    request_queue_size = 128
    bench: Bench
    kept: Kept
    streaming: Optional[Streaming] = None
    """What answers the board's stream, if its owner gave one."""
    most_bytes: int
    about: Dict[str, Any]
    mark: str
    """Of the store's recipe, so that a server sees when a board comes back with other data than it introduced."""

    def __init__(self, path: str) -> None:
        super().__init__(path, _Caller)
        self._silent: Dict[int, socket.socket] = {}
        self._lock = threading.Lock()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Let a caller in, and the longest silent out if there are too many: an honest one asks at once."""
        with self._lock:
            if len(self._silent) >= MOST_SILENT:
                _hang_up(self._silent.pop(next(iter(self._silent))))
            self._silent[id(request)] = request
        super().process_request(request, client_address)

    def has_asked(self, request: Any) -> None:
        """Take note that a caller has asked something, or is gone."""
        with self._lock:
            self._silent.pop(id(request), None)

    def shutdown_request(self, request: Any) -> None:
        self.has_asked(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say in one line that a caller went away or spoke nonsense; show a trace of anything else."""
        error = sys.exc_info()[1]
        if isinstance(error, (ConnectionLost, ProtocolError, socket.timeout)):
            print(f"trainer: {error}", file=sys.stderr, flush=True)
        else:
            super().handle_error(request, client_address)


class _Caller(socketserver.BaseRequestHandler):
    """One connection: a hello, one question, its answer."""

    server: _Server

    def handle(self) -> None:
        self.request.settimeout(PATIENCE_S)
        shake_hands(self.request)
        asked = receive_frame(self.request)
        self.server.has_asked(self.request)
        try:
            if asked.get("do") == "describe":
                self._describe(words=bool(asked.get("words")))
            elif asked.get("do") == "task":
                self._task(str(asked.get("task")))
            elif asked.get("do") == "serve":
                self._serve(str(asked.get("ask")), count_in(asked, "count"))
            else:
                raise TrainerError(REFUSED, f"nothing is known of {asked.get('do')!r}: ask for describe, task or serve")
        except TrainerError as error:
            send_frame(self.request, {"error": error.code, "detail": error.detail[-DETAIL_CHARACTERS:]})

    def _describe(self, *, words: bool) -> None:
        bench = self.server.bench
        told = {**self.server.about, "busy": bench.busy, "finished": bench.finished}
        if words:
            told["words"] = self._words()
        send_frame(self.request, told)

    def _words(self) -> Units:
        own = self.server.bench.trainer.clients[0]  # whichever number: a board has its own data alone
        if own.train.x.dtype.kind != "i":
            raise TrainerError(REFUSED, "the board's samples are no texts: they have no words")
        return words_in((own.train.x, own.test.x))

    def _task(self, text: str) -> None:
        bench = self.server.bench
        if not bench.take():
            raise TrainerError(BUSY, "the trainer works for somebody else")
        try:
            task = _task_of(text)
            _check_task(task, self.server.about, self.server.most_bytes)
            facts, vector = self._done(
                Job(partial(bench.trainer.run, task, *self._complete(task, self._weights(task))))
            )
        finally:
            bench.leave()
        self._answer(facts, to_payload(task, vector))

    def _serve(self, text: str, count: int) -> None:
        bench, streaming = self.server.bench, self.server.streaming
        if streaming is None:
            raise TrainerError(
                REFUSED,
                "this board serves no stream, as its owner gave none (cosp trainer --stream FOLDER or FILE.npz; "
                "samples of it leave the board then)",
            )
        if not bench.take():
            raise TrainerError(BUSY, "the trainer works for somebody else")
        try:
            ask = _ask_of(text)
            _check_task(ask.task, self.server.about, self.server.most_bytes)
            if count > self.server.most_bytes:
                raise TrainerError(REFUSED, f"a set of {count} bytes, this trainer takes {self.server.most_bytes}")
            send_frame(self.request, {"send": count})
            message = bytes(self._receive(count))
            facts, found = self._done(Job(partial(streaming.serve, ask, message)))
        finally:
            bench.leave()
        self._answer(facts, found)

    def _receive(self, size_bytes: int) -> bytearray:
        return receive_bytes(self.request, size_bytes, within_s=PATIENCE_S + size_bytes / SLOWEST_BYTES_PER_S)

    def _done(self, job: Job) -> Tuple[Dict[str, Any], Any]:
        self.server.bench.put(job)
        self._wait(job)
        return _result(job)

    def _answer(self, facts: Dict[str, Any], found: np.ndarray) -> None:
        facts = {**facts, "recipe": self.server.mark}
        send_frame(self.request, {"facts": facts, "dtype": found.dtype.name, "count": found.size})
        send_bytes(self.request, found)

    def _weights(self, task: Task) -> torch.Tensor:
        """Ask for the weights of ``task``: float32, or bytes where they are of two formats."""
        apart = in_bytes(task)
        count = sent_bytes(task) if apart else task.sent
        send_frame(self.request, {"send": count})
        received = self._receive(count if apart else FLOAT_BYTES * count)
        return torch.frombuffer(received, dtype=torch.uint8 if apart else torch.float32)

    def _complete(self, task: Task, sent: torch.Tensor) -> Tuple[torch.Tensor, Optional[torch.Tensor]]:
        try:
            return self.server.kept.complete(task, sent)
        except NotKept as error:
            raise TrainerError(REFUSED, str(error)) from None

    def _wait(self, job: Job) -> None:
        """Wait until ``job`` is done; cancel it if the caller goes away."""
        while not job.done.wait(WATCH_S):
            if _has_hung_up(self.request):
                self.server.bench.cancel(job)


def _result(job: Job) -> Tuple[Dict[str, Any], Any]:
    if job.error is not None:
        raise TrainerError(FAILED, job.error)
    if job.result is None:
        raise TrainerError(CANCELLED, "the caller hung up")
    return job.result


def _task_of(text: str) -> Task:
    try:
        task = task_from_json(text)
        _ = task.parameters
        if task.beside:
            raise ValueError("it is many clients', as in a simulation alone")
        return task
    except Exception as error:  # a task from outside: nearly anything may be wrong with it
        raise _unreadable(error) from error


def _ask_of(text: str) -> Ask:
    try:
        ask = ask_from_json(text)
        if not (
            ask.most >= 1
            and ask.place >= 0
            and ask.exit in range(len(ask.task.shape.exits_within(ask.task.plan.depth)))
        ):
            raise ValueError(f"most {ask.most}, place {ask.place}, exit {ask.exit}")
        return ask
    except Exception as error:  # as above
        raise _unreadable(error) from error


def _unreadable(error: Exception) -> TrainerError:
    return TrainerError(REFUSED, f"the task cannot be read ({error!r}); trainer and server need the same cosp")


def _check_task(task: Task, about: Dict[str, Any], most_bytes: int) -> None:
    """TrainerError if the task does not suit this board's data and memory."""
    size_bytes = FLOAT_BYTES * task.trained + task.size.frozen_bytes
    asked = (list(task.shape.sample_shape), task.shape.classes)
    here = (list(about["recipe"]["sample_shape"]), len(about["recipe"]["classes"]))
    if asked != here:
        raise TrainerError(
            REFUSED, f"the model is for samples of shape {asked[0]} and {asked[1]} classes, this board has {here}"
        )
    if size_bytes > most_bytes:
        raise TrainerError(
            REFUSED, f"the task's weights have {size_bytes} bytes, this trainer takes {most_bytes} (--limit-bytes)"
        )


def _has_hung_up(connection: socket.socket) -> bool:
    """Say whether the other side is gone; it has nothing to say while it waits, so whatever can be read is the end."""
    readable, _, _ = select.select([connection], [], [], 0)
    if not readable:
        return False
    try:
        return not connection.recv(1, socket.MSG_PEEK)
    except OSError:
        return True


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it is gone already
        connection.shutdown(socket.SHUT_RDWR)  # whoever reads from it wakes up


def check_folder(path: Path) -> None:
    """UserError if everybody may put another socket in the place of ``path``."""
    mode = path.parent.stat().st_mode
    if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
        raise UserError(
            f"{path}: anybody may replace files in {path.parent} ({stat.filemode(mode)}), and so the trainer: "
            f"chmod o-w {path.parent}, or give another --socket"
        )


def rights(path: Path) -> str:
    """Say who may call the trainer at ``path``: rights and owners of the socket and of its folder."""

    def of(one: Path) -> str:
        found = one.stat()
        return f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}"

    return f"{of(path)}, in {path.parent} {of(path.parent)}"


def _listen(path: Path, bench: Bench, most_bytes: int) -> _Server:
    """Return the server of a new socket at ``path``; a dead trainer's is replaced, a living one's is not."""
    if path.exists():
        if not path.is_socket():  # an ordinary file refuses connections as a dead trainer's socket does
            raise UserError(f"{path}: is no socket, and is not replaced; give another --socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(str(path))
            except ConnectionRefusedError:
                path.unlink()
            except OSError as error:
                raise UserError(f"{path}: is no socket that could be replaced ({error}); give another") from None
            else:
                raise UserError(f"{path}: a trainer is listening there already; stop it or give another --socket")
    try:
        path.parent.mkdir(mode=FOLDER_MODE, parents=True, exist_ok=True)
        check_folder(path)
    except OSError as error:
        raise UserError(f"{path}: cannot listen there ({error}); give another --socket") from None
    before = os.umask(0o777 & ~SOCKET_MODE)
    try:
        server = _Server(str(path))
    except OSError as error:
        raise UserError(f"{path}: cannot listen there ({error}); give another --socket") from None
    finally:
        os.umask(before)
    server.bench, server.kept, server.most_bytes = bench, Kept(), most_bytes
    return server
