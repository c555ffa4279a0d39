"""What is wrong with one piece of text, in words, where a pattern could only say "no".

Each function takes a value and returns what is wrong with it, to be read after the value (`gpt-4 has no
slash`), or `None`. The patterns beside them are for the JSON Schema: as strict as a pattern can be.
"""

from __future__ import annotations

import re
import warnings
from datetime import date
from ipaddress import ip_address
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from balancer.config.units import parse_clock, parse_listen

KEY_PATTERN: Final = r"^[a-z0-9][a-z0-9._:-]*$"
TAG_PATTERN: Final = r"^[a-z0-9][a-z0-9._:-]*(/[a-z0-9][a-z0-9._:-]*)?$"
ALIAS_PATTERN: Final = r"^(?!.*:(nitro|floor|exacto)(:|$))[a-z0-9]"
MODEL_PATTERN: Final = r"^(?!.*:(nitro|floor|exacto)(:|$))[a-z0-9][a-z0-9._:-]*(/[a-z0-9][a-z0-9._:-]*)+$"
URL_PATTERN: Final = r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+(/[^?#]*)?(\?[^#]+)?$"
PAGE_PATTERN: Final = r"^[Hh][Tt][Tt][Pp][Ss]?://[^/?#@]+([/?][^#]*)?$"
TARGET_PATTERN: Final = r"^(https?://[^/?#@]+([/?][^#]*)?|tcp://[^/?#@]+:[0-9]+|dns://[^/?#@:]+)$"
MODE_PATTERN: Final = r"^0?[0-7]{3}$"
GROUP_PATTERN: Final = r"^[A-Za-z_][A-Za-z0-9_.-]{0,31}$"  # 31 are what useradd takes
DATE_PATTERN: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"

SUFFIXES: Final = frozenset({"nitro", "floor", "exacto"})  # how a client asks for a sort: no part of a name
NAME_MAX: Final = 200  # characters of a slug, tag or alias: they become labels and header values

CREDENTIAL_HEADERS: Final = frozenset({"authorization", "x-api-key", "api-key", "proxy-authorization"})
# What frames a message or names its receiver: a second one would break it, or smuggle another request.
OWN_HEADERS: Final = frozenset(
    {
        "host", "content-length", "transfer-encoding", "connection", "proxy-connection", "keep-alive", "upgrade",
        "te", "trailer", "expect", "accept-encoding",
    }
)  # fmt: skip

_LOGIN: Final = "carries a user or password, which belong into credential"
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9._:-]*(/[a-z0-9][a-z0-9._:-]*)*")
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,200}")
# Names of a query's parameters that are credentials: whoever asks for a decision would be shown them.
_PRIVATE: Final = re.compile(
    r"(?:key|token|secret|passw(?:or)?d|signature|credentials?)$|(?:^|[-_])(?:sig|auth|code)$", re.IGNORECASE
)
_SPACE: Final = re.compile(r"[\s\\]")


def key_fault(text: str) -> str | None:
    if "/" in text:
        return "has a slash, which belongs to tags"
    return name_fault(text)


def tag_fault(text: str) -> str | None:
    if text.count("/") > 1:
        return "has more than one slash"
    return name_fault(text)


def name_fault(text: str) -> str | None:
    if text == "":
        return "is empty"
    if len(text) > NAME_MAX:
        return f"is longer than {NAME_MAX} characters"
    for part in text.split(":")[1:]:
        if part in SUFFIXES:
            where = "ends in" if text.endswith(f":{part}") else "holds"
            return f"{where} :{part}, which asks for a way of sorting"
    if _NAME.fullmatch(text) is None:
        return "has other characters than a name may have"
    return None


def model_fault(text: str) -> str | None:
    fault = name_fault(text)
    return "has no slash" if fault is None and "/" not in text else fault


def url_fault(text: str) -> str | None:
    """Judge a base address: paths are put into it before its query, and it is shown in answers and logs."""
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not an address"
    if parts.scheme not in ("http", "https") or host is None or host == "":
        return "is not an http or https address"
    if parts.username is not None or parts.password is not None:
        return _LOGIN
    if parts.fragment or text.endswith(("?", "#")):
        return "has a fragment or an empty query"
    if any(_PRIVATE.search(name) is not None for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        return "carries a key in its query, which belongs into credential"
    if port == 0 or _SPACE.search(text) is not None or not text.isascii():
        return "is not an address"
    return None


def address_version(host: str | None) -> str | None:
    """Tell an IP address by its version; `None` for a host's name."""
    try:
        return None if host is None else str(ip_address(host).version)
    except ValueError:
        return None


def probe_url_fault(text: str) -> str | None:
    """Judge the address of an http probe: a path below the endpoint's, or one of its own with any query."""
    if text.startswith("/"):
        return "is not a path" if _SPACE.search(text) is not None or not text.isascii() else None
    return url_fault(text.partition("#")[0].partition("?")[0])


def page_url_fault(text: str) -> str | None:
    """Judge the address of a status page, which may have a query."""
    if "#" in text:
        return "has a fragment, which is never sent"
    fault = url_fault(text.partition("?")[0])
    return "carries a user or password, and none is sent there" if fault == _LOGIN else fault


def target_fault(text: str) -> str | None:
    """Judge what shows that we are online; the scheme says how it is asked."""
    scheme, _, rest = text.partition("://")
    if scheme in ("http", "https"):
        return page_url_fault(text)
    if scheme not in ("tcp", "dns"):
        return "is not an address that can be asked"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        return "is not an address"
    if not host or rest != parts.netloc or "@" in rest or _SPACE.search(rest) is not None or not rest.isascii():
        return "is not a host and a port" if scheme == "tcp" else "is not a host's name"
    if scheme == "tcp":
        return None if port else "has no port"
    if port is not None or rest.endswith(":"):
        return "has a port, which no name has"
    return "holds an address: nothing to resolve" if address_version(host) is not None else None


def header_fault(text: str) -> str | None:
    return None if _HEADER.fullmatch(text) is not None else "is not a header's name"


def sent_name_fault(text: str) -> str | None:
    """Judge the name of a header that probes send."""
    if text.lower() in CREDENTIAL_HEADERS:
        return "carries the credential, which the provider's own key gives"
    return "is set by the probe itself" if text.lower() in OWN_HEADERS else header_fault(text)


def sent_value_fault(text: str) -> str | None:
    """Judge the value of a header; the caller sees to control characters."""
    return None if text.isascii() and text == text.strip() else "is not what a header can carry"


def directory_fault(text: str) -> str | None:
    """Judge a directory's path. The words for false mean what `none` says; as names they are written ./off."""
    return "is no path" if text.lower() in ("off", "no", "false") else None


def path_fault(text: str) -> str | None:
    """Judge a JSONPath of RFC 9535."""
    if not text.startswith("$"):
        return "does not begin with $"
    from jsonpath import JSONPathEnvironment, JSONPathError  # slow to import, and few configurations need it

    try:
        JSONPathEnvironment(strict=True).compile(text)
    except JSONPathError as error:
        return f"is not a JSONPath: {str(error).partition(chr(10))[0]}"
    except RecursionError:
        return "is not a JSONPath that can be read"
    return None


def address_fault(text: str) -> str | None:
    try:
        parse_listen(text)
    except ValueError as error:
        return str(error)
    return None


def mode_fault(text: str) -> str | None:
    return None if re.fullmatch(MODE_PATTERN, text) is not None else "is not three octal digits"


def group_fault(text: str) -> str | None:
    return None if re.fullmatch(GROUP_PATTERN, text) is not None else "is not the name of a group"


def clock_fault(text: str) -> str | None:
    try:
        parse_clock(text)
    except ValueError as error:
        return str(error)
    return None


def date_fault(text: str) -> str | None:
    if re.fullmatch(DATE_PATTERN, text) is None:
        return "is not a day"
    try:
        date.fromisoformat(text)
    except ValueError:
        return "is not in the calendar"
    return None


def regex_fault(text: str) -> str | None:
    """Judge a regular expression; what follows the colon may repeat a piece of it."""
    import regex  # slow to import, and few configurations need it

    try:
        with warnings.catch_warnings(action="ignore"):
            regex.compile(text)
    except regex.error as error:
        return f"is not a regular expression: {error}"
    except (OverflowError, RecursionError):
        return "is not a regular expression that can be compiled"
    return None
