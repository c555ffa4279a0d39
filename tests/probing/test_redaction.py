"""Secrets are found however a server spells them, and nothing else is touched."""

import html
import json
import time
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest

from balancer.config.secret import Secret
from balancer.probing.redaction import KNOWN_MAX, Redaction, redaction

KEY = "sk-Proj/a+b&c<d>'e\"f\\g 0123=="


def based(encode, before):
    """As in a login: what stands before moves every letter of it."""
    return lambda text: encode((before + text + "!").encode()).decode()


SPELLINGS = {
    "as it is": str,
    "small": str.lower,
    "capitals": str.upper,
    "URL": quote,
    "URL without slashes": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "URL in small letters": lambda text: quote(text, safe="").lower(),
    "URL, every letter": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "JSON": lambda text: json.dumps(text)[1:-1],
    "JSON of PHP": lambda text: json.dumps(text)[1:-1].replace("/", "\\/"),
    "JSON of Go": lambda text: json.dumps(text)[1:-1].replace("<", "\\u003c").replace("&", "\\u0026"),
    "JSON, every letter": lambda text: "".join(f"\\u{ord(letter):04X}" for letter in text),
    "JSON inside JSON": lambda text: json.dumps(json.dumps(text))[3:-3],
    "JSON inside JSON of PHP": lambda text: json.dumps(json.dumps(text)[1:-1].replace("/", "\\/"))[1:-1],
    "Python": lambda text: repr(text)[1:-1],
    "Python's bytes": lambda text: repr(text.encode())[2:-1],
    "hexadecimal": lambda text: text.encode().hex(),
    "HTML": html.escape,
    "HTML without quotes": lambda text: html.escape(text, quote=False),
    "HTML, every letter": lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    "HTML in hexadecimal": lambda text: "".join(f"&#x{ord(letter):X};" for letter in text),
    "base64": based(b64encode, ""),
    "base64, one further": based(b64encode, ":"),
    "base64, two further": based(b64encode, "a:"),
    "base64 of a login": based(b64encode, "user:"),
    "base64 of a header": based(b64encode, "Bearer "),
    "base64 for URLs": based(urlsafe_b64encode, "a:"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", [KEY, "sk-ant-api03-0123456789abcdefXYZ", "ключ/0123456789"])
def test_every_spelling_is_found_and_what_is_around_it_stays(spelling, key):
    spelled = SPELLINGS[spelling](key)
    text = Redaction([Secret(key)]).of(f"<<{spelled}>>, and again <<{spelled}>>.")
    if "base64" in spelling:
        # At its edges a letter or two are also of what stands beside it.
        assert all(part not in text for part in (spelled, spelled[4:-8]))
        assert text.count("***") == 2
    else:
        assert text == "<<***>>, and again <<***>>."


@pytest.mark.parametrize("text", ["", "nothing", "50 % off\\n &#8364;", "İstanbul %41", "sk-Proj", "a+b", "*" * 99])
def test_what_is_no_secret_stays_as_it_is(text):
    assert Redaction([Secret(KEY), Secret("")]).of(text) == text
    assert Redaction([]).of(text) == text


def test_letters_that_become_two_when_small_move_nothing():
    assert Redaction([Secret("secret-key")]).of("İİİ SECRET-KEY İİİ Secret%2Dkey") == "İİİ *** İİİ ***"


def test_of_two_secrets_the_longer_is_found_first():
    both = Redaction([Secret("sk-secret"), Secret("sk-secret-of-all")])
    assert both.of("sk-secret-of-all, sk-secret, sk-secret%2Dof-all") == "***, ***, ***"


@pytest.mark.parametrize("spelling", ["as it is", "URL without slashes", "JSON", "hexadecimal", "base64"])
def test_a_spelling_that_a_limit_cut_is_removed_too(spelling):
    spelled = SPELLINGS[spelling](KEY)
    for length in range(10, len(spelled)):  # `%2F` is the eighth letter
        assert Redaction([Secret(KEY)]).of(f"key {spelled[:length]}").startswith("key ***")
    assert Redaction([Secret(KEY)]).of(f"key {spelled[:7]}") == f"key {spelled[:7]}"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("provided: sk-Proj-abcdefghijklmnop****. Get one", "provided: *******. Get one"),
        ("provided: ****efghijklmnop-0123456789. Get one", "provided: *******. Get one"),
        ("sk-Proj-abcd...23456789, and sk-Proj...3456789", "***...***, and sk-Proj...3456789"),
        ("sk-Proj-abcdefghijk\n    lmnop-0123456789 was sent", "*** was sent"),
        ("'sk-Proj-abcdefghijk' \\\n 'lmnop-0123456789'", "'***'"),
        ('{"error": "sk-Proj-abcdefghijk\\n\\tlmnop-0123456789"}', '{"error": "***"}'),
        ("s k - P r o j - a b c d e f g h i j k l m n o p - 0 1 2 3 4 5 6 7 8 9", "***"),
        ("\0".join("sk-Proj-abcdefghijklmnop-0123456789"), "***"),
        ("sk-Proj-abcdefgh%0D%0Aijklmnop-0123456789", "***"),
        ("sk-Proj-abcdefghsk-Proj-abcdefghijklmnop-0123456789", "***"),
    ],
)
def test_a_secret_that_is_broken_or_not_whole_is_removed(text, shown):
    assert Redaction([Secret("sk-Proj-abcdefghijklmnop-0123456789")]).of(text) == shown


def test_a_text_of_which_each_letter_is_spelled_twice_over_is_found():
    twice = quote(quote(KEY, safe=""), safe="")
    assert Redaction([Secret(KEY)]).of(f"location: /?key={twice}&a") == "location: /?key=***&a"


@pytest.mark.timeout(10)
def test_a_secret_that_repeats_itself_takes_no_time():
    assert Redaction([Secret("ab" * 2000)]).of("ab" * 100_000 + "!") == "***!"


def test_a_long_secret_is_no_more_work_than_its_length():
    began = time.process_time()
    assert Redaction([Secret("k3y/" * 625)]).of("k3y%2f" * 625) == "***"
    assert time.process_time() - began < 0.2  # seconds; a pattern of all its spellings took 0.7


def test_no_spelling_is_longer_than_it_says():
    for key in (KEY, "sk-0123456789", "x"):
        most = Redaction([Secret(key)]).length_max
        assert all(len(spelled(key)) <= most for name, spelled in SPELLINGS.items() if "base64" not in name)
    assert Redaction([]).length_max == 0


@pytest.mark.timeout(10)
@pytest.mark.parametrize("sign", ["\\", "%", "&#", "\\s", "sk-Proj", "&#0", "\\u00", "%73"])
def test_signs_without_end_take_no_time(sign):
    assert "sk-Proj/" not in Redaction([Secret(KEY)]).of(sign * 100_000)


def test_the_same_secrets_share_what_is_known_of_them():
    assert redaction((Secret(KEY),)) is redaction((Secret(KEY),))
    assert redaction((Secret(KEY),)) is not redaction((Secret(KEY), Secret("another")))
    assert redaction.cache_info().maxsize == KNOWN_MAX
