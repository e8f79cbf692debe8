"""``python -m cosp.trainer``: the command ``cosp trainer`` where there is no Python 3.11 for the other commands.

``python -m cosp.trainer store`` makes the store that it reads, where the board's photos are; ``python -m cosp.trainer
serve`` answers with the model that a run ended with.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Optional, Sequence

from cosp.errors import CospError, UserError
from cosp.trainer.hand_over import describe

SOCKET = Path("/run/cosp/trainer.sock")
LIMIT_BYTES = 4 << 30
PORT = 8080


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Do what the command line asks and return the exit code: 2 for what a person can mend."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if words[:1] == ["store"]:
            return store(words[1:])
        if words[:1] == ["serve"]:
            return serve(words[1:])
        return _train_or_ask(words)
    except CospError as error:
        print(f"cosp: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        return 0


def store(words: Sequence[str]) -> int:
    """Write a board's own samples as a store, by the server's recipe. Needs no torch, and Pillow for photos."""
    parser = argparse.ArgumentParser(prog="python -m cosp.trainer store", description=store.__doc__)
    parser.add_argument("source", type=Path, help="a folder with a folder of images per class, or an .npz with x, y")
    parser.add_argument("--recipe", type=Path, required=True, help="the server's: cosp server recipe CONFIG makes it")
    parser.add_argument("--out", type=Path, required=True, metavar="STORE", help="folder to write")
    given = parser.parse_args(words)
    from cosp.recipe import read_recipe
    from cosp.trainer.own import write_own_store

    if not given.source.exists():
        raise UserError(f"{given.source}: there is nothing; give a folder of images or an .npz")
    try:
        trains, held = write_own_store(given.source, read_recipe(given.recipe), given.out)
    except OSError as error:
        raise UserError(f"{error.filename or given.out}: {error.strerror or error}; give another folder") from None
    print(f"{given.out}: {trains} samples to train on, {held} held back", file=sys.stderr)
    return 0


def serve(words: Sequence[str]) -> int:
    """Answer over HTTP, to this machine alone, with the model that a run ended with: POST / a picture or a .npy."""
    parser = argparse.ArgumentParser(prog="python -m cosp.trainer serve", description=serve.__doc__)
    parser.add_argument("model", type=Path, help="RUN/model, copied here from where the run ended")
    parser.add_argument("--board", type=int, help="take this client's submodel; default the whole model")
    parser.add_argument(
        "--exit", type=int, metavar="K", help="leave behind block K; default the exit chosen by the run"
    )
    parser.add_argument("--confident", type=float, metavar="P", help="leave before, at an exit that is so sure: 0.9")
    parser.add_argument("--port", type=int, default=PORT, help="default: %(default)s; 0 for a free one")
    parser.add_argument("--threads", type=int, help="torch's threads (default: as torch chooses)")
    given = parser.parse_args(words)
    from cosp.trainer.serving import serve_model  # torch takes seconds to import

    serve_model(
        given.model, board=given.board, last=given.exit, confident=given.confident, port=given.port,
        threads=given.threads,
    )  # fmt: skip
    return 0


def _train_or_ask(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m cosp.trainer", description=train.__doc__)
    parser.add_argument("--data", type=Path, metavar="STORE", help="the board's data: cosp store makes it")
    parser.add_argument("--socket", type=Path, default=SOCKET, help="where to listen (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: as torch chooses)")
    parser.add_argument("--limit-bytes", type=int, default=LIMIT_BYTES, help="refuse tasks with more weights")
    parser.add_argument(
        "--stream",
        type=Path,
        metavar="SOURCE",
        help="answer this for a server that asks: a folder of images, an .npz; samples leave the board then",
    )
    parser.add_argument(
        "--health", action="store_true", help="print what the trainer at --socket says; 1 if none answers"
    )
    given = parser.parse_args(words)
    if given.health:
        return health(given.socket)
    train(given.data, given.socket, given.threads, given.limit_bytes, given.stream)
    return 0


def train(
    data: Optional[Path], socket: Path, threads: Optional[int], limit_bytes: int, stream: Optional[Path] = None
) -> None:
    """Keep a board's data, torch and its GPU warm and do the tasks that come in through a Unix socket."""
    if data is None:
        raise UserError("trainer: --data STORE is missing; make one: python -m cosp.trainer store PHOTOS")
    from cosp.trainer.daemon import serve_trainer  # torch takes seconds to import; a health check must not

    serve_trainer(data, socket, threads=threads, most_bytes=limit_bytes, stream=stream)


def health(socket: Path) -> int:
    """Print one JSON object of what the trainer at ``socket`` says; return 1 if nobody answers."""
    try:
        print(json.dumps(describe(socket, wait_s=0.0)))
    except CospError as error:
        print(f"cosp: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
