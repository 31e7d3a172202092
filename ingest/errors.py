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


class RefusedError(StatusEngineError):
    """A live transition that was not recorded; nothing is written.

    code: the rule's name, as S19 or the validator has it, or that of the conflict.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class IllegalTransitionError(RefusedError):
    """`unknown_status`, `illegal_transition` or `left_final` (S19)."""


class ApprovalError(RefusedError):
    """`missing_approval`, `wrong_role` or `unknown_user` (S19)."""


class ConflictError(RefusedError):
    """The entity is not as the caller thinks; read its status and decide again.

    `expected_status`, `concurrent_writer`, `created_at_is_earlier` or `id_conflict`.
    """


class MalformedTransitionError(RefusedError):
    """A value breaks a rule of a transition; the code is the rule's name."""
