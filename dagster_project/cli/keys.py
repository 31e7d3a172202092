"""Which entity is meant: by its id, or by the text that its source knows it by.

How a text becomes an id belongs in ingest/transition.py.
"""

from psycopg.sql import SQL, Identifier

from ingest.errors import StatusEngineError
from ingest.store.database import Connection


def entity_id_of(
    connection: Connection, entity_type: str, given: int | str, schema: str = "sla"
) -> int:
    """The id of an entity within its type.

    Args:
        connection: open.
        entity_type: its type.
        given: the id, or the entity's key.
        schema: where entity_keys is asked: raw, or sla for who may read no more.

    Raises:
        StatusEngineError: no entity of the type has the key, or several have.
    """
    if isinstance(given, int):
        return given
    found = connection.execute(
        SQL(
            "select entity_id, namespace from {} "
            "where entity_type = %s and entity_key = %s order by 2"
        ).format(Identifier(schema, "entity_keys")),
        [entity_type, given],
    ).fetchall()
    if not found:
        msg = (
            f"There is no {entity_type} {given!r}: it is no number, and no source "
            "knows one by it."
        )
        raise StatusEngineError(msg)
    if len(found) > 1:
        each = ", ".join(f"{number} of {namespace!r}" for number, namespace in found)
        msg = f"Several sources know a {entity_type} {given!r}. Name its id: {each}."
        raise StatusEngineError(msg)
    return int(found[0][0])
