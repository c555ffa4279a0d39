"""What is different where Azure speaks OpenAI's dialect: the header of the key, and what `model` names.

A key goes into `api-key`, which all of Azure's paths take; `Authorization: Bearer` there is for tokens of Entra ID
(and, on `/openai/v1` alone, for keys too). The name that is asked for is a deployment's, which somebody chose
freely. Paths and `api-version` stand in `base_url`: `https://NAME.openai.azure.com/openai/v1`, or
`https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT?api-version=…`.

Source: Azure OpenAI REST API reference, "Authentication"; "Azure OpenAI in Microsoft Foundry Models v1 API".
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

# The third is Azure Government's of the first.
_HOSTS: Final = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com", ".openai.azure.us")


def is_azure(base_url: str) -> bool:
    """Whether a URL leads to Azure. Raises: nothing."""
    if ".azure." not in base_url.lower():
        return False  # most: every probe asks, and to take a URL apart takes ten times as long
    try:
        host = urlsplit(base_url).hostname
    except ValueError:
        return False  # said where it is asked
    return host is not None and host.rstrip(".").endswith(_HOSTS)


def names_deployments(base_url: str) -> bool:
    """Whether what is asked for there is a deployment, so that an answer may name any model."""
    return is_azure(base_url) or "/deployments/" in f"{base_url.partition('?')[0]}/"


def is_token(credential: str) -> bool:
    """Whether a credential is a token of Entra ID, a JWT, and no key. Source: RFC 7519, `{"` in base64 is `eyJ`."""
    return credential.startswith("eyJ") and credential.count(".") == 2
