"""Keys that OpenSSL and ssh-keygen accept, that others cannot read and that nothing overwrites."""

from __future__ import annotations

import datetime
import ipaddress
import stat

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from cosp.deployment.keys import LOCAL, make_node_keys, make_server_keys
from cosp.errors import UserError

NOW = datetime.datetime(2026, 5, 1, 12, tzinfo=datetime.UTC)


def certificate(path):
    return x509.load_pem_x509_certificate(path.read_bytes())


def test_private_halves_are_for_their_owner_alone(tmp_path):
    written = make_server_keys(tmp_path, ["server.lan"]) + make_node_keys(tmp_path, ["board"])
    assert [path.name for path in written] == ["ca.key", "ca.crt", "server.key", "server.crt", "board.key", "board.pub"]
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in written if path.suffix == ".key"} == {
        "ca.key": 0o600,
        "server.key": 0o600,
        "board.key": 0o600,
    }


def test_the_authority_signs_the_server_s_certificate_for_its_names_and_this_machine(tmp_path):
    make_server_keys(tmp_path, ["server.lan", "192.168.1.10"], days=30, now=NOW)
    authority, server = certificate(tmp_path / "ca.crt"), certificate(tmp_path / "server.crt")
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["server.lan", LOCAL[0]]
    assert names.get_values_for_type(x509.IPAddress) == [
        ipaddress.ip_address("192.168.1.10"),
        ipaddress.ip_address(LOCAL[1]),
    ]
    assert server.not_valid_before_utc < NOW < server.not_valid_after_utc == NOW + datetime.timedelta(days=30)
    assert not server.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_renewed_certificate_is_of_the_same_authority(tmp_path):
    make_server_keys(tmp_path, ["server.lan"])
    before = certificate(tmp_path / "ca.crt"), certificate(tmp_path / "server.crt")
    assert [path.name for path in make_server_keys(tmp_path, ["other.lan"])] == ["server.key", "server.crt"]
    assert certificate(tmp_path / "ca.crt") == before[0]
    assert certificate(tmp_path / "server.crt") != before[1]
    certificate(tmp_path / "server.crt").verify_directly_issued_by(before[0])


def test_a_board_s_public_key_is_that_of_its_private_one(tmp_path):
    make_node_keys(tmp_path, ["board"])
    private = load_ssh_private_key((tmp_path / "board.key").read_bytes(), None)
    assert load_ssh_public_key((tmp_path / "board.pub").read_bytes()) == private.public_key()
    assert (tmp_path / "board.pub").read_text().endswith(" board\n")


def test_a_board_s_key_is_never_overwritten(tmp_path):
    make_node_keys(tmp_path, ["board"])
    before = (tmp_path / "board.key").read_bytes()
    with pytest.raises(UserError, match=r"board.key: is there already"):
        make_node_keys(tmp_path, ["board"])
    assert (tmp_path / "board.key").read_bytes() == before


@pytest.mark.parametrize("name", ["../board", "a/b", ".hidden", ""])
def test_a_board_s_name_is_a_file_s(tmp_path, name):
    with pytest.raises(UserError, match="a board's name becomes a file's"):
        make_node_keys(tmp_path, [name])


def test_half_an_authority_is_refused(tmp_path):
    make_server_keys(tmp_path / "a", ["a.lan"])
    make_server_keys(tmp_path / "b", ["b.lan"])
    (tmp_path / "a" / "ca.crt").write_bytes((tmp_path / "b" / "ca.crt").read_bytes())
    with pytest.raises(UserError, match="do not belong together"):
        make_server_keys(tmp_path / "a", ["a.lan"])


@pytest.mark.parametrize("lost", ["ca.key", "ca.crt"])
@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(b"cut")])
def test_what_is_left_of_an_authority_is_kept(tmp_path, lost, damage):
    make_server_keys(tmp_path, ["a.lan"])
    damage(tmp_path / lost)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="ca.key and ca.crt cannot be read .*; put both back, or give another --out"):
        make_server_keys(tmp_path, ["a.lan"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    "host", ["sérvér", "", " ", "a b", "a\n", "a..b", "-a", "a:8000", "http://a", "1.2.3", "a" * 64, "a." * 127]
)
def test_a_host_that_is_none_is_refused_before_anything_is_written(tmp_path, host):
    with pytest.raises(UserError, match="--host .*: must be a name, of at most 253 characters .*, or an address"):
        make_server_keys(tmp_path, [host])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("host", ["a", "a_b.lan", "*.lan", "3com.lan", "::1", ".".join(["a" * 62] * 4)])
def test_any_name_or_address_is_taken(tmp_path, host):
    make_server_keys(tmp_path, [host])
    names = certificate(tmp_path / "server.crt").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    known = names.get_values_for_type(x509.DNSName) + list(map(str, names.get_values_for_type(x509.IPAddress)))
    assert host in known


@pytest.mark.parametrize("days", [0, -5, 3651, 4_000_000, 10**20])
def test_a_certificate_holds_no_longer_than_its_authority(tmp_path, days):
    with pytest.raises(UserError, match=rf"--days {days}: must lie in 1\.\.3650"):
        make_server_keys(tmp_path, ["a.lan"], days=days)
    assert list(tmp_path.iterdir()) == []
