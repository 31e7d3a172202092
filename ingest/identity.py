"""Ids of what came without one: the same for the same content, on every machine.

What makes two rows the same belongs in validation.py.
"""

import hashlib
import uuid
from collections.abc import Iterable

# Identities of rows and keys that came without one are uuid5 within this namespace.
NAMESPACE = uuid.UUID("5b1a3a0c-7a4e-5d55-9c0e-6c9d0f6a2f11")


def key_to_bigint(namespace: str, key: str) -> int:
    """The bigint that stands for a text key: 2^62 or more, the same everywhere.

    Sixty-two bits of SHA-256; the registry raw.entity_keys refuses a collision.
    """
    digest = hashlib.sha256(f"{namespace}\x00{key}".encode()).digest()
    return 2**62 + (int.from_bytes(digest[:8]) >> 2)


def key_to_uuid(key: str) -> str:
    """The UUID that stands for a text key, such as a user's name."""
    return named_uuid(key)


def content_uuid(values: Iterable[str | None]) -> str:
    """The id of a row that came without one, as `validate` gives it.

    Args:
        values: of a kind's content, in its order, as stored; instants in UTC, to the
            microsecond, without an offset.
    """
    return named_uuid(
        "\x00".join("" if value is None else f"={value}" for value in values)
    )


def named_uuid(content: str) -> str:
    """The uuid5 of a text within NAMESPACE."""
    # As uuid.uuid5 does, in two thirds of its time.
    named = NAMESPACE.bytes + content.encode()
    digest = hashlib.sha1(named, usedforsecurity=False).digest()
    return str(uuid.UUID(bytes=digest[:16], version=5))
