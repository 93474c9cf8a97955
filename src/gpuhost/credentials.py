"""Taking credentials out of texts that are shown, kept or passed on. Pure; the rest of redaction is `redact`.

Python 3.6 and the standard library: modules that run on a target use it too.
"""

import re

HIDDEN = "***"
# User and password stand before the host. The second form is a password with an unescaped slash in it.
_LOGIN = re.compile(r"//(?:[^/\s]*@|[^/\s:]*:(?![0-9]+/)\S*@)")
# A URI whose scheme was forgotten is no less secret.
_BARE_LOGIN = re.compile(r"(?<!\S)[^\s/:@]+:(?!//)\S*@")
# Tokens and signatures are parameters, and their names are endless: no parameter is shown.
_PARAMETERS = re.compile(r"\b([A-Za-z][A-Za-z0-9+.-]*://[^\s?#\"'<>]*)[?#][^\s\"'<>]+")
_HEADER = re.compile(
    r"(?i)\b((?:proxy-)?authorization|(?:set-)?cookie2?|x-[a-z0-9-]*(?:token|key|auth|signature|credential)[a-z0-9-]*)"
    r"(\\*[\"']?\s*[:=]\s*)[^\r\n]+"
)
_NAMED = re.compile(
    r"(?i)(?<![a-z0-9])([a-z0-9_-]*(?:password|passwd|passphrase|token|secret|signature|api[_-]?key|access[_-]?key"
    r"|credentials?))(\\*[\"']?\s*[:=]\s*)(\"[^\"]*\"|'[^']*'|[^\s,;&]+)"
)


def without_logins(text: str) -> str:
    """Return the text with user names and passwords inside URIs replaced by ***."""
    return _BARE_LOGIN.sub(HIDDEN + "@", _LOGIN.sub(f"//{HIDDEN}@", text))


def without_secrets(text: str) -> str:
    """Return the text without logins and parameters in URLs, values of authentication and cookie headers, and values
    that are called a password, a token, a key or a signature.
    """
    text = _PARAMETERS.sub(rf"\1?{HIDDEN}", without_logins(text))
    return _NAMED.sub(rf"\1\2{HIDDEN}", _HEADER.sub(rf"\1\2{HIDDEN}", text))
