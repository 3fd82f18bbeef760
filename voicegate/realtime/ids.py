"""Ids as the dialect writes them: a prefix that says what it is, an underscore, and 80 random bits."""

import secrets


def new_id(prefix: str) -> str:
    """A fresh id such as `event_3f0c…`. Prefixes in use: event, sess, conv, item, resp, call.

    It stays below 32 characters, which is what the original accepts for an id that a client brings back.
    """
    return f"{prefix}_{secrets.token_hex(10)}"
