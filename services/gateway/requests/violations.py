"""The field violations of a request."""

from __future__ import annotations

from services.common.rpc.status import FieldViolation, invalid_argument


class Violations:
    """Collects the violations of one message, so that one error names them all."""

    def __init__(self, parent: str = "") -> None:
        """parent: prefix of every field's path, such as "config." """
        self._parent = parent
        self.found: list[FieldViolation] = []

    def wrong(self, field: str, description: str, reason: str = "") -> None:
        self.found.append(FieldViolation(self._parent + field, description, reason))

    def add(self, violation: FieldViolation) -> None:
        """Adds a violation whose field lacks the prefix."""
        self.wrong(violation.field, violation.description, violation.reason)

    def raise_if_any(self) -> None:
        """Raises StatusError INVALID_ARGUMENT with all of them."""
        if self.found:
            raise invalid_argument(self.found)
