"""Mails and news posts (RFC 5322) without what gives their topic away: the subject and the body alone."""

from __future__ import annotations

import re

_SUBJECT = re.compile(r"^Subject:[ \t]*(.*)$", re.MULTILINE | re.IGNORECASE)


def subject_and_body(post: str) -> str:
    """Return the subject, then what stands below the first empty line.

    Where a post's line breaks were made tabs, as in the training half of a common copy of 20 Newsgroups, they are put
    back first. One that is a single line has no headers.
    """
    lines = post.strip("\n")
    if "\n" not in lines:
        lines = lines.replace("\t", "\n")
    if "\n" not in lines:
        return lines.strip()
    headers, _, body = lines.replace("\r\n", "\n").partition("\n\n")
    subject = _SUBJECT.search(headers)
    return f"{subject[1] if subject else ''}\n{body}".strip()
