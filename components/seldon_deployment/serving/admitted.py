"""The bytes of verified models on their way from the repository to the runtime, in this process's memory.

MLServer hands over settings, which hold no bytes; they hold a token instead. A model is taken once.
"""

import secrets
from collections.abc import Mapping

Files = Mapping[str, bytes]
_waiting: dict[str, tuple[str, Files]] = {}


def hand_over(name: str, files: Files) -> str:
    """Keep the files of a verified model until the runtime takes them; return the token that it needs."""
    token = secrets.token_hex(16)
    _waiting[name] = token, files  # an older one of that name was not taken and never will be
    return token


def take(name: str, token: object) -> Files | None:
    """Return the files of a model and forget them; None when they are not there, or of another verification."""
    if name not in _waiting or _waiting[name][0] != token:
        return None
    return _waiting.pop(name)[1]
