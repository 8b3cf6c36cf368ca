"""
The errors of aflamingock.

::

    FlamingockError
    ├── ConfigurationError
    │   ├── ChangeLoadError
    │   └── InjectionError
    ├── AuditStoreError
    │   ├── AuditStoreConnectionError
    │   ├── AuditStorePermissionError
    │   ├── AuditStoreIndexError
    │   ├── AuditStoreSchemaError
    │   ├── UnknownOutcomeError
    │   └── SequenceConflictError
    ├── SystemBusyError
    ├── LockError
    │   ├── LockTimeoutError
    │   └── LockLostError
    ├── RunFailedError
    │   ├── ChangeFailedError
    │   └── RollbackFailedError
    ├── ManualInterventionError
    ├── PendingChangesError
    └── HistoryError
        ├── DriftError
        └── OutOfOrderError
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._plan.plan import Plan
    from ._records import Issue, Lease
    from ._report import RunReport
    from ._states import AuditState


class FlamingockError(Exception):
    """
    The root of every error that aflamingock raises.

    :ivar report: what was done until then, where a run ended with this error
    """

    report: RunReport | None = None


class ConfigurationError(FlamingockError):
    """
    The pipeline, a change or an argument is wrong; nothing has been run.

    :param message: the fault and the next step, as sentences
    :param file: the file that has to be corrected, if there is one
    :param line: the line in *file*, counted from 1
    :param faults: the single faults, where the error stands for several
    :ivar faults: every fault; of a single fault, the error itself
    """

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        faults: Sequence[ConfigurationError] = (),
    ) -> None:
        place = f"{file}:{line}: " if file and line else f"{file}: " if file else ""
        super().__init__(place + message)
        self.file = file
        self.line = line
        self.faults: tuple[ConfigurationError, ...] = tuple(faults) or (self,)

    @classmethod
    def joining(cls, faults: Sequence[ConfigurationError]) -> ConfigurationError:
        """
        Return one error that lists all *faults*.

        :param faults: one fault or more; a single one is returned as it is
        """
        if len(faults) == 1:
            return faults[0]

        listed = "\n".join(f"  - {fault}" for fault in faults)
        return ConfigurationError(
            f"{len(faults)} faults were found; nothing has been run:\n{listed}",
            faults=faults,
        )


class ChangeLoadError(ConfigurationError):
    """A file, or a change in it, cannot be used."""


class InjectionError(ConfigurationError):
    """
    A parameter of a change is something that nobody can provide.

    :param change_id: the change
    :param parameter: the name of its parameter
    """

    def __init__(
        self,
        message: str,
        *,
        change_id: str,
        parameter: str,
        file: str | None = None,
        line: int | None = None,
    ) -> None:
        super().__init__(message, file=file, line=line)
        self.change_id = change_id
        self.parameter = parameter


class AuditStoreError(FlamingockError):
    """The audit store did not do what it was asked."""


class AuditStoreConnectionError(AuditStoreError):
    """The audit store could not be reached; surely nothing was done."""


class AuditStorePermissionError(AuditStoreError):
    """The audit store's user lacks a right."""


class AuditStoreIndexError(AuditStoreError):
    """The indexes of the audit store could not be created."""


class AuditStoreSchemaError(AuditStoreError):
    """A table of the audit store, or a collection, is not there yet; nothing was written."""


class UnknownOutcomeError(AuditStoreError):
    """The answer was lost: an append, a swap or a commit may or may not have been done."""


class SequenceConflictError(AuditStoreError):
    """
    The number of an audit entry was taken already; nothing was written there.

    :param sequence: the number
    :ivar state: the state of the refused entry, where it is known
    """

    def __init__(self, sequence: int, *, state: AuditState | None = None) -> None:
        super().__init__(
            f"Audit entry {sequence} was written by somebody else: another runner works on "
            "this audit store."
        )
        self.sequence = sequence
        self.state = state


class SystemBusyError(FlamingockError):
    """A store or a target system is locked by somebody else's transaction; nothing was done."""


class LockError(FlamingockError):
    """The right to work could not be had, or was lost."""


class LockTimeoutError(LockError):
    """
    Another runner still held the lease when the wait was over.

    :param holder: the lease that stood in the way, if one was seen
    """

    def __init__(self, message: str, *, holder: Lease | None) -> None:
        super().__init__(message)
        self.holder = holder


class LockLostError(LockError):
    """The lease ended while the run was at work; nothing was written after it."""


class RunFailedError(FlamingockError):
    """
    A run was ended by what a change did; the cause is what the change raised.

    :param change_id: the change
    :param file: the file that it stands in, if known
    """

    def __init__(self, message: str, *, change_id: str, file: str | None) -> None:
        super().__init__(message)
        self.change_id = change_id
        self.file = file


class ChangeFailedError(RunFailedError):
    """A change raised an error."""


class RollbackFailedError(RunFailedError):
    """The rollback of a change raised an error."""


class ManualInterventionError(FlamingockError):
    """
    A person has to say what became of a change before its stage may run.

    :param issues: the changes in question
    """

    def __init__(self, message: str, *, issues: Sequence[Issue]) -> None:
        super().__init__(message)
        self.issues: tuple[Issue, ...] = tuple(issues)


class PendingChangesError(FlamingockError):
    """
    Changes are pending where none should be.

    :param plan: what a run would do
    """

    def __init__(self, message: str, *, plan: Plan) -> None:
        super().__init__(message)
        self.plan = plan


class HistoryError(FlamingockError):
    """
    The code does not fit the history of what was applied; nothing has been run.

    :param faults: a sentence for each contradiction
    """

    def __init__(self, faults: Sequence[str]) -> None:
        listed = "\n".join(f"  - {fault}" for fault in faults)
        super().__init__(f"The changes do not fit the audit log:\n{listed}")
        self.faults: tuple[str, ...] = tuple(faults)


class DriftError(HistoryError):
    """An applied change is not the same in the code any more."""


class OutOfOrderError(HistoryError):
    """A pending change stands before one that is applied already."""
