"""Addresses without their secrets, for printing."""

import re
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"


def shown(address: str) -> str:
    """An address without its password and its query string, which may also contain passwords and keys."""
    scheme, is_url, rest = address.partition("://")
    if not is_url:  # a file, or a URL with a missing slash
        return re.sub(r":[^:@/]+@", f":{HIDDEN}@", address)
    login, at, place = rest.rpartition("@")  # the last @: a password may contain characters that should be encoded
    if "?" in login:  # in a password, or the @ is in the query string
        return f"{scheme}://{HIDDEN}"
    user, has_password, _ = login.partition(":")
    place, end, _ = re.match(r"([^?#]*)([?#]?)(.*)", place, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{scheme}://{user}{f':{HIDDEN}' if has_password else ''}{at}{place}{f'{end}{HIDDEN}' if end else ''}"


def without_secrets(text: str, address: str) -> str:
    """A text about an address, without the secrets that `shown` hides."""
    text = text.replace(address, shown(address))
    for secret in sorted(_secrets(address), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


def _secrets(address: str) -> set[str]:
    """The parts of an address that `shown` hides, as written and decoded."""
    _, _, rest = address.partition("://")
    login, _, place = rest.rpartition("@")
    hidden = re.split(r"[?#&;]", rest)[1:] + re.split(r"[?#]", place)[1:] + [login.partition(":")[2]]
    parts = {part for text in hidden for part in (text, text.partition("=")[2])}
    return {form for part in parts for form in (part, unquote(part), unquote_plus(part)) if form}
