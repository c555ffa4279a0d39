"""The TLS contexts: one per combination of files, read again when a file was replaced."""

import os
import shutil
import ssl

import pytest

from balancer.config.settings import ClientCert
from balancer.probing.failure import Failure
from balancer.probing.trust import Contexts, Trust, default_tls

# A key that only a password opens; the password is "secret".
ENCRYPTED = """-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAigx34L7iW8xQICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEAQIEEMss61CzhdN3nYVd08EX884EgZDx
25p8g4ZChjgEo6umhvYu/zaL+N2PYGRQCEO3Ox9ZRr1tta4Bwh+wBL62MrfCQAzr
jgpk9EtnUjZERqmeDUmTxwy8+wr6jwbrMuUW0JetD1EyRHlC09CPUM15P3yt9GDr
RZN+zubijHEJWlsmhaAdPzM/Wyh0RmA0BT/wgIa5XyLDHO9cZ3SKiBW7h4gIhA0=
-----END ENCRYPTED PRIVATE KEY-----
"""


def test_there_is_one_tls_context_per_process():
    assert default_tls() is default_tls()


def test_without_files_the_default_is_used_and_made_only_then():
    made = []

    def make():
        made.append(ssl.create_default_context())
        return made[-1]

    contexts = Contexts(make)
    assert made == []
    assert contexts.of(Trust()) is made[0]


def test_a_context_is_made_once_until_a_file_of_it_is_replaced(lab, tmp_path):
    contexts = Contexts(default_tls)
    path = tmp_path / "ca.pem"
    shutil.copy(lab.pem, path)
    os.utime(path, ns=(1, 1))
    trust = Trust(ca_file=str(path))
    first = contexts.of(trust)
    assert contexts.of(trust) is first
    assert contexts.of(Trust(ca_file=str(lab.pem))) is not first
    os.utime(path, ns=(2, 2))
    assert contexts.of(trust) is not first
    assert len(contexts.of(trust).get_ca_certs()) == 1


def test_files_that_cannot_be_used_are_a_wrong_recipe(lab, tmp_path):
    contexts = Contexts(default_tls)
    empty, locked = tmp_path / "empty.pem", tmp_path / "locked.pem"
    empty.write_text("nothing")
    locked.write_text(ENCRYPTED)
    pem = str(lab.pem)
    for trust, words in (
        (Trust(ca_file=str(tmp_path / "gone.pem")), "gone.pem: No such file or directory"),
        (Trust(ca_file=str(empty)), "empty.pem cannot be used: "),
        (Trust(pem, str(empty)), "empty.pem cannot be used: "),
        (Trust(pem, pem, str(locked)), "cannot be used: "),
        (Trust(key_file=str(tmp_path / "gone.key")), "gone.key: No such file or directory"),
    ):
        with pytest.raises(Failure) as caught:
            contexts.of(trust)
        assert caught.value.kind == "probe_invalid"
        assert words in caught.value.detail


async def test_a_server_that_asks_for_a_certificate_is_shown_ours(lab):
    def asking(context):
        context.load_verify_locations(lab.pem)
        context.verify_mode = ssl.CERT_REQUIRED

    server = await lab.serve(lambda seen: seen.answer(200, [{"id": "model-1"}]), tls=True, asking=asking)
    files = {"ca_file": str(lab.pem)}
    for key_file in (str(lab.pem), None):
        shown = ClientCert(cert_file=str(lab.pem), key_file=key_file)
        assert (await lab.probe(server.url, "models", client_cert=shown, **files)).outcome.kind == "success"
    refused = await lab.probe(server.url, "models", endpoint={"id": "another"}, **files)
    # In TLS 1.3 a server refuses after our side is done: with an alert, or asyncio's by hanging up.
    assert refused.outcome.kind in ("tls", "reset")
    assert refused.bug is None
