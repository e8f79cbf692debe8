from __future__ import annotations

import http.client
import json
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from half_run import Half

from cosp.errors import UserError
from cosp.watch import Watch, check_run


@pytest.fixture
def page(half: Half) -> Iterator[Watch]:
    with Watch(half.folder) as watch:
        yield watch


def ask(page: Watch, path: str, host: str | None = None) -> tuple[int, dict[str, str], str]:
    port = int(page.url.rstrip("/").rpartition(":")[2])
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("GET", path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read().decode()
    connection.close()
    return found


def test_the_page_and_what_it_asks_for(page: Watch, half: Half) -> None:
    status, headers, html = ask(page, "/")
    assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    for path in re.findall(r'(?:src|href)="(/[^"]+)"', html):
        assert ask(page, path)[0] == 200
    assert json.loads(ask(page, "/state")[2])["run"]["name"] == "half"
    half.round(0, 0.0, (0.1, 0.2))
    assert len(json.loads(ask(page, "/state")[2])["evaluated"]) == 1


def test_nothing_else_is_served(page: Watch) -> None:
    for path in ("/config.yaml", "/../config.yaml", "/rows.jsonl", "/state/"):
        assert ask(page, path)[0] == 404


def test_only_this_machine_is_listened_to(page: Watch) -> None:
    port = int(page.url.rstrip("/").rpartition(":")[2])
    with socket.socket() as other, pytest.raises(OSError, match="refused"):
        other.connect(("127.0.0.2", port))


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8642", "127.0.0.1.evil.example", "localhost.", ""])
def test_a_page_that_made_its_name_lead_here_is_refused(page: Watch, host: str) -> None:
    assert ask(page, "/state", host or " ")[0] == 403


@pytest.mark.parametrize("host", ["localhost:9000", "127.0.0.1", "LOCALHOST:1"])
def test_a_tunnel_may_end_at_another_port(page: Watch, host: str) -> None:
    assert ask(page, "/state", host)[0] == 200


def test_no_file_of_the_page_names_an_address_or_makes_html_of_text(page: Watch) -> None:
    for path in ("/", "/watch.css", "/watch.js", "/charts.js"):
        text = ask(page, path)[2]
        assert "://" not in text
        assert "@import" not in text
    assert "innerHTML" not in ask(page, "/watch.js")[2]
    policy = ask(page, "/")[1]["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy


def test_a_port_that_is_taken_is_one_line_and_by_default_another_is_found(half: Half) -> None:
    with Watch(half.folder) as first:
        port = int(first.url.rstrip("/").rpartition(":")[2])
        with pytest.raises(UserError, match=rf"--port: {port} cannot be used \(Address already in use\); leave it out"):
            Watch(half.folder, port)
        with Watch(half.folder) as second:
            assert second.url != first.url
            assert ask(second, "/state")[0] == 200


def test_a_run_in_any_state_is_one(half: Half, tmp_path: Path) -> None:
    check_run(half.folder)
    rows = half.folder / "rows.jsonl"
    rows.write_bytes(rows.read_bytes()[:20])
    check_run(half.folder)
    rows.unlink()
    check_run(half.folder)


def test_what_is_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such directory; give the --out folder"):
        check_run(tmp_path / "none")
    with pytest.raises(UserError, match="holds no run; give the --out folder"):
        check_run(tmp_path)
    (tmp_path / "config.yaml").write_text("name: mine\n")
    with pytest.raises(UserError, match="holds no run"):
        check_run(tmp_path)
    for text in ("[]\n", "{}\n", '{"kind": "round"}\n', "\xff\n"):
        (tmp_path / "rows.jsonl").write_text(text, encoding="latin-1")
        with pytest.raises(UserError, match="holds no run"):
            check_run(tmp_path)
