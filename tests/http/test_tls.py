"""TLS: what is wrong with files, by name; and what a handshake allows."""

from __future__ import annotations

import os
import socket
import ssl
import threading
from datetime import UTC, datetime
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives import serialization

from balancer.config import ConfigError, TlsSettings
from balancer.http import PreparedTls, prepare_tls

ENDS = datetime(2044, 2, 29, 12, 30, 15, tzinfo=UTC)
LATER = datetime(2061, 1, 2, 3, 4, 5, tzinfo=UTC)  # written with four digits from 2050 on


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


class Files:
    """A folder of PEM files."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.folder = folder
        self.authority = authority

    def write(self, name: str, *contents: bytes) -> str:
        path = self.folder / name
        path.write_bytes(b"".join(contents))
        return str(path)

    def pair(self, name: str, *, ends: datetime = ENDS) -> TlsSettings:
        made = self.authority.issue_cert("localhost", not_after=ends)
        chain = self.write(f"{name}.pem", *(each.bytes() for each in made.cert_chain_pems))
        return TlsSettings(cert_file=chain, key_file=self.write(f"{name}.key", made.private_key_pem.bytes()))


@pytest.fixture
def files(tmp_path: Path, authority: trustme.CA) -> Files:
    return Files(tmp_path, authority)


def problems(settings: TlsSettings) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        prepare_tls(settings)
    return [str(each) for each in caught.value.problems]


# ---- files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [ENDS, LATER])
def test_the_end_of_the_certificate_is_read_to_the_second(files: Files, ends: datetime) -> None:
    assert prepare_tls(files.pair("a", ends=ends)).expires == ends.timestamp()


def test_certificate_and_key_may_be_one_file(files: Files) -> None:
    made = files.authority.issue_cert("localhost", not_after=ENDS)
    one = files.write("one.pem", made.private_key_and_cert_chain_pem.bytes())
    assert prepare_tls(TlsSettings(cert_file=one)).expires == ENDS.timestamp()


def test_files_that_are_not_there_or_not_readable_are_named(files: Files, tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.pem")
    allowed = "give a PEM file that this user can read"
    assert problems(TlsSettings(cert_file=gone)) == [f"{gone}: tls.cert_file: No such file or directory; {allowed}"]
    good = files.pair("a")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    both = TlsSettings(cert_file=good.cert_file, key_file=gone, client_ca_file=str(pipe))
    assert problems(both) == [
        f"{gone}: tls.key_file: No such file or directory; {allowed}",
        f"{pipe}: tls.client_ca_file: not a regular file; {allowed}",
    ]


def test_a_key_of_another_certificate_is_said_so(files: Files) -> None:
    one, other = files.pair("one"), files.pair("other")
    mixed = TlsSettings(cert_file=one.cert_file, key_file=other.key_file)
    found = f"not the key of the certificate in {one.cert_file}"
    assert problems(mixed) == [f"{other.key_file}: tls.key_file: {found}; give the key that belongs to it"]


@pytest.mark.parametrize(
    "form", [serialization.PrivateFormat.PKCS8, serialization.PrivateFormat.TraditionalOpenSSL]
)
def test_a_key_with_a_password_is_refused_and_nobody_is_asked(
    files: Files, form: serialization.PrivateFormat
) -> None:
    made = files.authority.issue_cert("localhost")
    key = serialization.load_pem_private_key(made.private_key_pem.bytes(), None)
    sealed = key.private_bytes(
        serialization.Encoding.PEM, form, serialization.BestAvailableEncryption(b"correct horse")
    )
    chain = files.write("a.pem", made.cert_chain_pems[0].bytes())
    path = files.write("a.key", sealed)
    assert problems(TlsSettings(cert_file=chain, key_file=path)) == [
        f"{path}: tls.key_file: its key has a password; give a key without one"
    ]


def test_files_without_what_they_are_for_are_told_apart(files: Files) -> None:
    pair = files.pair("a")
    assert pair.key_file is not None
    assert problems(TlsSettings(cert_file=pair.cert_file)) == [
        f"{pair.cert_file}: tls.key_file: no private key in it; give tls.key_file"
    ]
    assert problems(TlsSettings(cert_file=pair.cert_file, key_file=pair.cert_file)) == [
        f"{pair.cert_file}: tls.key_file: no private key in it; give the PEM file of the certificate's key"
    ]
    allowed = "give a PEM file of the authorities that sign clients"
    swapped = TlsSettings(cert_file=pair.key_file, key_file=pair.key_file, client_ca_file=pair.key_file)
    assert problems(swapped) == [
        f"{pair.key_file}: tls.cert_file: no certificate in it; give a PEM file, our own certificate first",
        f"{pair.key_file}: tls.client_ca_file: no certificate in it; {allowed}",
    ]


def test_nonsense_between_the_marks_is_told_and_never_repeated(files: Files) -> None:
    pair = files.pair("a")
    secret = "c2VjcmV0LXNlY3JldA"
    broken = files.write("b.pem", f"-----BEGIN CERTIFICATE-----\n{secret}\n-----END CERTIFICATE-----\n".encode())
    told = problems(TlsSettings(cert_file=broken, key_file=pair.key_file, client_ca_file=broken))
    assert [each.partition(" cannot be used: ")[0] for each in told] == [
        f"{broken}: tls.cert_file:",
        f"{broken}: tls.client_ca_file:",
    ]
    key = files.write("b.key", f"-----BEGIN PRIVATE KEY-----\n{secret}\n-----END PRIVATE KEY-----\n".encode())
    told += problems(TlsSettings(cert_file=pair.cert_file, key_file=key))
    assert len(told) == 3
    assert not any(secret[:8] in each for each in told)
    assert problems(TlsSettings(cert_file=files.write("b.bin", b"\xff\x00"))) == [
        f"{files.folder}/b.bin: tls.cert_file: not text; give a PEM file"
    ]


# ---- handshakes -------------------------------------------------------------------------------------------


def shake(prepared: PreparedTls, client: ssl.SSLContext) -> str | None:
    """Shake hands over a socket pair and say a word; the version that was agreed on, `None` for no agreement."""
    near, far = socket.socketpair()
    heard: list[bytes] = []

    def serve() -> None:
        try:
            with prepared.context.wrap_socket(far, server_side=True) as wrapped:
                wrapped.sendall(b"hello")
                heard.append(b"fine")
        except OSError:
            far.close()

    serving = threading.Thread(target=serve)
    serving.start()
    try:
        with client.wrap_socket(near, server_hostname="localhost") as wrapped:
            version = wrapped.version() if wrapped.recv(5) == b"hello" else None
    except OSError:
        version = None
        near.close()
    serving.join()
    return version if heard else None


def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def test_versions_and_ciphers_are_todays(files: Files) -> None:
    prepared = prepare_tls(files.pair("a"))
    client = trusting(files.authority)
    assert shake(prepared, client) == "TLSv1.3"
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert shake(prepared, client) == "TLSv1.2"
    for old in ("ECDHE+AES:!AESGCM:!AESCCM", "kRSA"):  # without authenticated encryption; without forward secrecy
        client.set_ciphers(f"{old}:@SECLEVEL=0")
        assert shake(prepared, client) is None
    client = trusting(files.authority)
    client.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        client.maximum_version = ssl.TLSVersion.TLSv1_1
    assert shake(prepared, client) is None
    assert prepared.context.options & ssl.OP_NO_RENEGOTIATION
    assert prepared.context.options & ssl.OP_NO_COMPRESSION


def test_with_a_client_authority_only_its_own_come_in(files: Files) -> None:
    clients, others = trustme.CA(), trustme.CA()
    below = clients.create_child_ca()
    pair = files.pair("a")
    given = files.write("clients.pem", clients.cert_pem.bytes())
    prepared = prepare_tls(TlsSettings(cert_file=pair.cert_file, key_file=pair.key_file, client_ca_file=given))
    intermediate = files.write("below.pem", below.cert_pem.bytes())
    narrow = prepare_tls(TlsSettings(cert_file=pair.cert_file, key_file=pair.key_file, client_ca_file=intermediate))

    def come(server: PreparedTls, issuer: trustme.CA | None) -> bool:
        client = trusting(files.authority)
        if issuer is not None:
            issuer.issue_cert("proxy@example.com").configure_cert(client)
        return shake(server, client) is not None

    assert [come(prepared, each) for each in (clients, below, others, None)] == [True, True, False, False]
    assert [come(narrow, each) for each in (below, clients, None)] == [True, False, False]
