"""Brings the text of a private key into the form that the program which wrote it gave it.

CI systems keep variables on one line, in quotes, with line ends as the two characters `\\` and `n`, or as base64 of the
whole file; YAML folds what is not a block into one line; editors and mails add blank lines and Windows line ends.
"""

from __future__ import annotations

import base64
import binascii
import re

PUTTY_MARK = "PuTTY-User-Key-File-"
PRIVATE_KEY = "PRIVATE KEY-----"

PEM_LINE_LENGTH = 64
# Base64 of base64: somebody has followed two instructions. More is no key.
MAX_LAYERS = 2

_QUOTES = "\"'`"
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]{0,40}PRIVATE KEY)-----")
_ENCRYPTION_HEADER = re.compile(r"Proc-Type: *(4,ENCRYPTED)\s+DEK-Info: *(\S+)\s+")


def decode_file(data: bytes) -> str:
    """The text of a file. PowerShell writes UTF-16, and some editors begin UTF-8 with a mark."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "replace")


def restore(text: str) -> str:
    """The key's text as its program wrote it, in lines; text that is no private key comes back much as it was."""
    for _ in range(MAX_LAYERS + 1):
        text = _unwrap(text)
        if is_private_key(text) or not (decoded := _decode_base64(text)):
            break
        text = decoded
    if _BEGIN.search(text):
        return _rebuild_pem(text)
    return "\n".join(line.strip() for line in text.splitlines()) + "\n"


def is_private_key(text: str) -> bool:
    """Whether there is a private key in a text, whole or not."""
    return PRIVATE_KEY in text or text.lstrip().startswith(PUTTY_MARK)


def _unwrap(text: str) -> str:
    """Without what surrounds the text, and with real line ends."""
    text = text.strip().lstrip("\ufeff").strip()
    while len(text) > 1 and text[0] in _QUOTES and text[0] == text[-1]:
        text = text[1:-1].strip()
    # Neither base64 nor a frame has a backslash; the comment of a PuTTY key may, and a path on Windows does.
    if PRIVATE_KEY in text or (text.startswith(PUTTY_MARK) and "\n" not in text):
        text = text.replace("\\r\\n", "\n").replace("\\n", "\n").replace("\\r", "\n").strip()
    return text


def _decode_base64(text: str) -> str:
    """What base64 of a whole file holds, if that is a key; otherwise empty."""
    letters = "".join(text.split())
    try:
        data = base64.b64decode(letters + "=" * (-len(letters) % 4), validate=True)
    except (binascii.Error, ValueError):
        return ""
    decoded = decode_file(data)
    is_key = is_private_key(decoded) or decoded.startswith(("ssh-", "ecdsa-", "sk-"))
    # Another layer is base64 again, which is ASCII.
    return decoded if is_key or (data.isascii() and len(data) > PEM_LINE_LENGTH) else ""


def _rebuild_pem(text: str) -> str:
    """The first private key of a text, in lines as RFC 7468 has them, without what stands around it.

    A key without its last line, which was cut off, comes back as it is.
    """
    begin = _BEGIN.search(text)
    end_line = f"-----END {begin[1]}-----" if begin else ""
    if begin is None or (end := text.find(end_line, begin.end())) < 0:
        return "\n".join(line.strip() for line in text.splitlines()) + "\n"
    inner = text[begin.end() : end].strip()
    lines = [begin[0]]
    # RFC 1421 section 4.6: what encrypted keys of OpenSSL's old format begin with, and an empty line behind it.
    if header := _ENCRYPTION_HEADER.match(inner):
        lines += [f"Proc-Type: {header[1]}", f"DEK-Info: {header[2]}", ""]
        inner = inner[header.end() :]
    body = "".join(inner.split())
    lines += [body[start : start + PEM_LINE_LENGTH] for start in range(0, len(body), PEM_LINE_LENGTH)]
    return "\n".join([*lines, end_line, ""])
