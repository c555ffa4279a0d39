"""The server's side of TLS: a context made of PEM files, with a name for everything that is wrong with them.

Theory of operation: files are read and a context is made before anything changes, so that a broken new pair leaves
the old one in force. Each file is looked at here first, because OpenSSL does not say which of two it could not use.
TLS 1.2 is the oldest, and of its ciphers only those with forward secrecy and authenticated encryption; 1.3 has no
others. There is no compression and no renegotiation.

Where a client authority is configured a certificate is required, and the authority may be an intermediate one.
Tickets of earlier sessions are sealed with a key of their context: after a rotation nobody comes in on an old one.

What this module does not know: sockets, and when files change.
"""

from __future__ import annotations

import os
import ssl
import stat
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Literal, NamedTuple

from balancer.config import ConfigError, ConfigProblem, TlsSettings

PEM_MAX: Final = 1_048_576  # bytes; the system's whole store of authorities is a fifth of it
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2. Source: Mozilla's "intermediate", without DHE

_CERTIFICATE: Final = "-----BEGIN CERTIFICATE-----"
_CERTIFICATE_END: Final = "-----END CERTIFICATE-----"
_KEY: Final = "PRIVATE KEY-----"
_SEALED: Final = "ENCRYPTED"  # in the first line of a modern key, in the second of an old one
_UTC_TIME: Final = 0x17  # of the two times of ASN.1 the one with two digits for the year
_VERSION: Final = 0xA0  # the tag of a certificate's version, which the oldest lack

Key = Literal["cert_file", "key_file", "client_ca_file"]


class PreparedTls(NamedTuple):
    """A context that is ready to be used, and when its own certificate ends, in Unix seconds.

    `certificate` and `client_ca` (`None` without) are digests of what was read, by which a rotation is noticed.
    """

    context: ssl.SSLContext
    expires: float
    certificate: bytes
    client_ca: bytes | None


class _Unusable(Exception):
    """One file that cannot be used: key of the configuration, path, what was found, what is allowed."""

    def __init__(self, key: Key, path: str, found: str, allowed: str) -> None:
        super().__init__(found)
        self.problem = ConfigProblem(file=path, line=None, path=f"tls.{key}", found=found, allowed=allowed)


def prepare_tls(settings: TlsSettings) -> PreparedTls:
    """Make a context of the files; blocks while they are read.

    Raises: ConfigError naming each file that cannot be used, and never what is in it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    problems: list[ConfigProblem] = []
    expires, certificate, client_ca = 0.0, b"", None
    try:
        expires, certificate = _load_own(context, settings)
    except _Unusable as wrong:
        problems.append(wrong.problem)
    try:
        if settings.client_ca_file is not None:
            client_ca = _load_client_authorities(context, settings.client_ca_file)
    except _Unusable as wrong:
        problems.append(wrong.problem)
    if problems:
        raise ConfigError(problems)
    return PreparedTls(context, expires, certificate, client_ca)


def _load_own(context: ssl.SSLContext, settings: TlsSettings) -> tuple[float, bytes]:
    """Load our own certificate and key; return when the certificate ends, and its digest."""
    cert_file = settings.cert_file
    key_file = cert_file if settings.key_file is None else settings.key_file
    chain = _read("cert_file", cert_file)
    if _CERTIFICATE not in chain:
        raise _Unusable(
            "cert_file", cert_file, "no certificate in it", "give a PEM file, our own certificate first"
        )
    key = _read("key_file", key_file)
    if _KEY not in key:
        allowed = "give tls.key_file" if settings.key_file is None else "give the PEM file of the certificate's key"
        raise _Unusable("key_file", key_file, "no private key in it", allowed)
    if _SEALED in key:
        raise _Unusable("key_file", key_file, "its key has a password", "give a key without one")
    try:
        # An empty password: without one OpenSSL asks for it at the terminal and waits.
        context.load_cert_chain(cert_file, key_file, password="")
        return _end(chain), _digest(chain)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            found = f"not the key of the certificate in {cert_file}"
            raise _Unusable("key_file", key_file, found, "give the key that belongs to it") from None
        raise _Unusable("cert_file", cert_file, *_broken(error)) from None
    except OSError as error:  # replaced since it was read
        raise _Unusable("cert_file", cert_file, str(error.strerror), "try again") from None
    except (ValueError, IndexError):
        raise _Unusable("cert_file", cert_file, "cannot be used", "give a PEM file that OpenSSL reads") from None


def _load_client_authorities(context: ssl.SSLContext, path: str) -> bytes:
    """Load whom clients' certificates may be of; return their digest."""
    text = _read("client_ca_file", path)
    if _CERTIFICATE not in text:
        allowed = "give a PEM file of the authorities that sign clients"
        raise _Unusable("client_ca_file", path, "no certificate in it", allowed)
    try:
        context.load_verify_locations(cadata=text)
    except ssl.SSLError as error:
        raise _Unusable("client_ca_file", path, *_broken(error)) from None
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN
    context.verify_mode = ssl.CERT_REQUIRED
    return _digest(text)


def _digest(text: str) -> bytes:
    return sha256(text.encode("ascii")).digest()


def _read(key: Key, path: str) -> str:
    allowed = "give a PEM file that this user can read"
    try:
        # Without O_NONBLOCK a pipe would make a reload wait for a writer that may never come.
        number = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(number, "rb") as file:
            if not stat.S_ISREG(os.fstat(number).st_mode):
                raise _Unusable(key, path, "not a regular file", allowed)
            content = file.read(PEM_MAX + 1)
    except OSError as error:
        raise _Unusable(key, path, str(error.strerror), allowed) from None
    if len(content) > PEM_MAX:
        raise _Unusable(key, path, f"longer than {PEM_MAX} bytes", "give a shorter PEM file")
    try:
        return content.decode("ascii")
    except UnicodeDecodeError:
        raise _Unusable(key, path, "not text", "give a PEM file") from None


def _broken(error: ssl.SSLError) -> tuple[str, str]:
    """Say what OpenSSL found, in its own words."""
    reason = "unreadable" if error.reason is None else error.reason.replace("_", " ").lower()
    return f"cannot be used: {reason}", "give a PEM file that OpenSSL reads"


def _end(chain: str) -> float:
    """Read when the first certificate of a chain ends. Units: Unix seconds. Source: RFC 5280, 4.1."""
    begin = chain.index(_CERTIFICATE)
    der = ssl.PEM_cert_to_DER_cert(chain[begin : chain.index(_CERTIFICATE_END, begin) + len(_CERTIFICATE_END)])
    _, at, _ = _element(der, 0)  # into the certificate
    _, at, _ = _element(der, at)  # into what is signed of it
    tag, _, after = _element(der, at)
    at = after if tag == _VERSION else at
    for _ in range(3):  # past serial number, algorithm and issuer
        _, _, at = _element(der, at)
    _, at, _ = _element(der, at)  # into the validity
    _, _, at = _element(der, at)  # past its beginning
    tag, at, after = _element(der, at)
    written = "%y%m%d%H%M%SZ" if tag == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(der[at:after].decode("ascii"), written).replace(tzinfo=UTC).timestamp()


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Read one element of DER: its tag, where its content begins, and where it ends."""
    size = der[at + 1]
    begin = at + 2
    if size >= 0x80:  # long form: so many bytes of length
        begin += size - 0x80
        size = int.from_bytes(der[at + 2 : begin], "big")
    return der[at], begin, begin + size
