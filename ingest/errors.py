"""What a caller can catch. One sentence each: what, where, what to do next."""


class StatusEngineError(Exception):
    """The request was refused, or stopped; the message is for a person.

    What was committed before stays; a refused request has committed nothing.
    """


class DatabaseError(StatusEngineError):
    """No usable PostgreSQL: not reachable, too old, or without the rights needed."""


class SourceError(StatusEngineError):
    """A file or a mapping can't be read as what it claims to be."""


class WorkflowError(StatusEngineError):
    """Workflow files that can't be applied; one line a defect."""
