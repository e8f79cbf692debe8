"""``python -m cosp.trainer``: the command ``cosp trainer`` where there is no Python 3.11 for the other commands."""

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


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """Serve or ask for health and return the exit code: 2 for what a person can mend."""
    parser = argparse.ArgumentParser(prog="python -m cosp.trainer", description=train.__doc__)
    parser.add_argument("--data", type=Path, metavar="STORE", help="the board's data: cosp store makes it")
    parser.add_argument("--socket", type=Path, default=SOCKET, help="where to listen (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: as torch chooses)")
    parser.add_argument("--limit-bytes", type=int, default=LIMIT_BYTES, help="refuse tasks with more weights")
    parser.add_argument(
        "--health", action="store_true", help="print what the trainer at --socket says; 1 if none answers"
    )
    given = parser.parse_args(arguments)
    try:
        if given.health:
            return health(given.socket)
        train(given.data, given.socket, given.threads, given.limit_bytes)
    except CospError as error:
        print(f"cosp: {error}", file=sys.stderr)
        return 2 if isinstance(error, UserError) else 1
    except KeyboardInterrupt:
        pass
    return 0


def train(data: Optional[Path], socket: Path, threads: Optional[int], limit_bytes: int) -> None:
    """Keep a board's data, torch and its GPU warm and do the tasks that come in through a Unix socket."""
    if data is None:
        raise UserError("trainer: --data STORE is missing; make one: cosp store CONFIG --out DIR")
    from cosp.trainer.daemon import serve_trainer  # torch takes seconds to import; a health check must not

    serve_trainer(data, socket, threads=threads, most_bytes=limit_bytes)


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
