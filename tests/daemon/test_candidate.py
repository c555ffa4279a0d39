"""What refuses a start or a reload although the file is good, and what waits for the next start."""

import socket
from contextlib import closing

import pytest
import trustme

from balancer.config import ConfigError, parse_config
from balancer.daemon.candidate import first, following
from balancer.service.sockets import Passed

TEXT = """\
providers: {one: {base_url: "http://127.0.0.1:9/v1"}}
models: {acme/large: {endpoints: [{provider: one, model: large}]}}
"""
TOKENS = "auth: {tokens: [{name: ops, scopes: [admin], token: {env: OPS}}]}\n"
OPS = {"OPS": "a-token-that-is-long-enough"}


def config(text="", **environ):
    return parse_config(TEXT + text, source="test", environ=environ)


@pytest.fixture
def wide():
    with closing(socket.create_server(("0.0.0.0", 0))) as listening:
        yield [Passed("http", listening)]


@pytest.fixture
def pair(tmp_path):
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost")
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    certificate.cert_chain_pems[0].write_to_path(cert)
    certificate.private_key_pem.write_to_path(key)
    return f"tls: {{cert_file: {cert}, key_file: {key}}}\n", cert


def test_a_passed_socket_that_lets_others_in_needs_tokens_at_the_start_and_at_each_reload(wide):
    with pytest.raises(ConfigError, match="the passed socket http"):
        first(config(), wide)
    guarded = config(TOKENS, **OPS)
    assert first(guarded, wide).config is guarded
    with pytest.raises(ConfigError, match="the passed socket http"):
        following(config, guarded, wide)


def test_what_is_bound_stays_guarded_though_the_file_takes_it_back():
    old = config("listen: 0.0.0.0:8790\n" + TOKENS, **OPS)
    with pytest.raises(ConfigError, match=r"0\.0\.0\.0:8790 stays open until the next start"):
        following(config, old, ())
    found = following(lambda: config(TOKENS, **OPS), old, ())
    assert found.waiting == ("listen",)
    assert found.config.listen == old.listen


def test_files_of_tls_that_do_not_fit_refuse_the_start_and_the_reload(pair):
    text, cert = pair
    good = config(text)
    assert first(good, ()).tls is not None
    assert following(lambda: config(text), good, ()).tls is not None
    cert.write_text("no certificate\n")
    for judge in (lambda: first(good, ()), lambda: following(lambda: config(text), good, ())):
        with pytest.raises(ConfigError, match=r"tls\.cert_file"):
            judge()


@pytest.mark.parametrize("begins", [True, False])
def test_tls_begins_and_ends_with_a_start(pair, begins):
    text, _ = pair
    old, new = (config(), text) if begins else (config(text), "")
    found = following(lambda: config(new), old, ())
    assert (found.waiting, found.tls, found.config.tls) == (("tls",), None, old.tls)


def test_the_difference_is_told_of_the_file_and_not_of_what_is_taken():
    old = config()
    found = following(lambda: config("routing: {strategy: price}\nlog: {level: debug}\n"), old, ())
    assert found.changes.facts()["changed"] == ["routing.strategy", "log.level"]
    assert found.config.log == old.log
    assert found.waiting == ("log",)


def test_files_of_tls_are_looked_at_although_tls_itself_waits_for_the_next_start(pair):
    text, cert = pair
    cert.write_text("no certificate\n")
    with pytest.raises(ConfigError, match=r"tls\.cert_file"):
        following(lambda: config(text), config(), ())


def test_files_of_tls_that_were_replaced_are_told_although_their_paths_are_the_same(pair, tmp_path):
    text, cert = pair
    ours, clients = trustme.CA(), tmp_path / "clients.pem"

    def issue():
        made = ours.issue_cert("localhost")
        made.cert_chain_pems[0].write_to_path(cert)
        made.private_key_pem.write_to_path(tmp_path / "key.pem")

    def told(new=text):
        found = following(lambda: config(new), old, (), serving=serving)
        return found.changes.facts()["changed"]

    old = config(text)
    serving = first(old, ()).tls
    assert told() == []
    issue()
    assert told() == told(text + "routing: {strategy: price}\n")[:1] == ["tls: certificate"]
    assert told("") == ["tls"], "that waits for the next start"
    guarded = text.replace("}", f", client_ca_file: {clients}}}")
    ours.cert_pem.write_to_path(clients)
    serving = first(old, ()).tls
    assert told(guarded) == ["tls.client_ca_file"]
    old = config(guarded)
    serving = first(old, ()).tls
    assert told(guarded) == []
    issue()
    trustme.CA().cert_pem.write_to_path(clients)
    assert told(guarded) == ["tls: certificate, client_ca"]


def test_whether_there_is_a_history_is_said_to_wait_and_the_rest_of_the_store_does_not():
    old = config()
    found = following(lambda: config("store: {history: false, save_interval: 20s}\n"), old, ())
    assert found.waiting == ("store.history",)
    assert (found.config.store.history, found.config.store.save_interval) == (True, 20.0)
    assert following(lambda: config("store: {save_interval: 20s}\n"), old, ()).waiting == ()


def test_what_did_not_change_is_the_very_value_that_is_in_force():
    old = parse_config(TEXT + "routing: {strategy: price}\n", source="test", environ={})
    found = following(lambda: parse_config(TEXT, source="test", environ={}), old, ()).config
    (key,) = old.endpoints
    assert found.endpoints[key] is old.endpoints[key]
    assert found.probes[key] is old.probes[key]
    changed = following(lambda: parse_config(TEXT.replace("9/v1", "8/v1"), source="test", environ={}), old, ())
    assert changed.config.endpoints[key].base_url.endswith(":8/v1")


def test_an_endpoint_without_a_key_may_come_and_go():
    one = config()
    more = parse_config(
        TEXT.replace("providers: {", 'providers: {two: {base_url: "http://127.0.0.1:8/v1"}, ').replace(
            "[{provider: one", "[{provider: two, model: large}, {provider: one"
        ),
        source="test",
        environ={},
    )
    assert set(following(lambda: more, one, []).config.credentials) == {*one.credentials, "acme/large@two"}
    assert set(following(lambda: one, more, []).config.credentials) == set(one.credentials)
