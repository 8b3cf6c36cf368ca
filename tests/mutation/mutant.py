"""The deliberate faults: one rule of the design left out at a time."""

from __future__ import annotations

from dataclasses import dataclass

_STORE = ("tests/stores/test_sqlite.py",)
_LOCK = ("tests/lock", "tests/test_lease.py")
_LOG = ("tests/audit",)
_EXECUTION = ("tests/execution",)
_RUN = ("tests/run",)
_MAJORITY = "test_writes_ask_a_majority_for_its_journal_whatever_the_client_asks"
_TARGET = ("tests/targets/test_sqlite.py",)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """
    A fault that is put into a copy of the package.

    :ivar rule: what is left out
    :ivar file: where, below the package
    :ivar found: the text that is replaced; it stands there once
    :ivar replaced: what it is replaced by
    :ivar tests: where the test is that must find it
    """

    rule: str
    file: str
    found: str
    replaced: str
    tests: tuple[str, ...]


MUTANTS = (
    Mutant(
        rule="a swap compares the token (owner check), SQLite",
        file="stores/sqlite.py",
        found='"WHERE recordKey = ? AND token = ?"',
        replaced='"WHERE recordKey = ? AND token != ?"',
        tests=_STORE,
    ),
    Mutant(
        rule="a swap compares the token (owner check), memory",
        file="stores/memory.py",
        found="if (standing and standing.token) != (current and current.token):",
        replaced="if (standing is None) != (current is None):",
        tests=("tests/stores/test_memory.py",),
    ),
    Mutant(
        rule="compare-and-append: a taken number is refused, SQLite",
        file="stores/sqlite.py",
        found='return f"INSERT INTO {table} (',
        replaced='return f"INSERT OR REPLACE INTO {table} (',
        tests=_STORE,
    ),
    Mutant(
        rule="R1: the log is read after the lease was taken",
        file="_run/run.py",
        found="        context = self.context(lease)\n        plan = await self.plan(pipeline)\n",
        replaced=(
            "        context = self.context(lease)\n"
            "        plan = make_plan(\n"
            "            pipeline, self.log.history.last, execution_id=self.execution_id\n"
            "        )\n"
        ),
        tests=_RUN,
    ),
    Mutant(
        rule="R2: a run never numbers its entries anew after a conflict",
        file="_audit/log.py",
        found="if not found or not rest or self.history.sequence >= rest[0].sequence:",
        replaced="if not rest:",
        tests=_LOG,
    ),
    Mutant(
        rule="R3: who reads a higher epoch stops",
        file="_audit/log.py",
        found="if self._lease is not None and entry.epoch > self._lease.epoch:",
        replaced="if self._lease is not None and entry.epoch > self._lease.epoch + 1000:",
        tests=(*_LOG, *_EXECUTION),
    ),
    Mutant(
        rule="R4: STARTED is durable before anything is executed",
        file="_execution/execution.py",
        found="            (opened,) = await self._run.log.append(self.opening())\n",
        replaced="            opened = self.opening()\n",
        tests=_EXECUTION,
    ),
    Mutant(
        rule="a marker is claimed, not only read, SQLite",
        file="targets/sqlite.py",
        found=(
            "            await self._insert(session, key, change_id, MarkerOutcome.ABORTED, "
            '"OR IGNORE")\n'
        ),
        replaced="",
        tests=_TARGET,
    ),
    Mutant(
        rule="a refused marker ends the transaction, SQLite",
        file="targets/sqlite.py",
        found="await self._insert(session, key, change_id, MarkerOutcome.COMMITTED)",
        replaced=(
            'await self._insert(session, key, change_id, MarkerOutcome.COMMITTED, "OR IGNORE")'
        ),
        tests=_TARGET,
    ),
    Mutant(
        rule="a marker is removed only after APPLIED is durable",
        file="_execution/attempt.py",
        found=(
            "                written = await self._close(following)\n"
            "                await self._forget_marker()\n"
        ),
        replaced=(
            "                await self._forget_marker()\n"
            "                written = await self._close(following)\n"
        ),
        tests=_EXECUTION,
    ),
    Mutant(
        rule="a transaction takes the write lock at its beginning, SQLite",
        file="targets/sqlite.py",
        found="BEGIN IMMEDIATE; ",
        replaced="BEGIN; ",
        tests=_TARGET,
    ),
    Mutant(
        rule="a change cannot end its transaction, SQLite",
        file="targets/sqlite.py",
        found="return sqlite3.SQLITE_DENY if action",
        replaced="return sqlite3.SQLITE_OK if action",
        tests=_TARGET,
    ),
    Mutant(
        rule="writes are durable at a majority, MongoDB",
        file="targets/_mongodb.py",
        found='WriteConcern("majority", j=True)',
        replaced="WriteConcern(1, j=False)",
        tests=("tests/stores/test_mongodb.py::" + _MAJORITY,),
    ),
    Mutant(
        rule="deadlines are counted from before the request, grant",
        file="_lock/lock.py",
        found="            granted = await self._record.swap(current, new)\n",
        replaced=(
            "            granted = await self._record.swap(current, new)\n"
            "            held._sent_at = self._clock()\n"
        ),
        tests=_LOCK,
    ),
    Mutant(
        rule="deadlines are counted from before the request, renewal",
        file="_lock/heartbeat.py",
        found="        held.renewed(new, sent_at=sent_at)\n",
        replaced="        held.renewed(new, sent_at=self._clock())\n",
        tests=_LOCK,
    ),
    Mutant(
        rule="a lease is watched before it is taken over",
        file="_lease.py",
        found="(lease.age > ttl and watched > ttl / 4)",
        replaced="lease.age > ttl",
        tests=_LOCK,
    ),
    Mutant(
        rule="a store's clock that was set back keeps no lease alive",
        file="_lease.py",
        found=" or watched > ttl * 2",
        replaced="",
        tests=_LOCK,
    ),
    Mutant(
        rule="a store without a clock is watched for the whole ttl",
        file="_lease.py",
        found="return watched > ttl * 1.05 + 1.0",
        replaced="return watched > ttl / 6",
        tests=_LOCK,
    ),
    Mutant(
        rule="only the own lease is given back",
        file="_lock/record.py",
        found="(found.owner, found.epoch) == (lease.owner, lease.epoch)",
        replaced="found.epoch >= lease.epoch",
        tests=_LOCK,
    ),
    Mutant(
        rule="a grant raises the epoch",
        file="_lock/lock.py",
        found="epoch=max(current.epoch if current else 0, above) + 1,",
        replaced="epoch=max(current.epoch if current else 1, above),",
        tests=_LOCK,
    ),
    Mutant(
        rule="a swap whose answer was lost is looked up",
        file="_lock/record.py",
        found="return found is not None and found.token == lease.token",
        replaced="return False",
        tests=_LOCK,
    ),
    Mutant(
        rule="nothing is written after the lease has ended",
        file="_audit/log.py",
        found=(
            "        if self._lease is not None:\n            self._lease.check()\n\n"
            "        numbered = []\n"
        ),
        replaced="        numbered = []\n",
        tests=(*_LOG, *_EXECUTION),
    ),
    Mutant(
        rule="every step of a change stands behind a check of the lease",
        file="_injection/guard.py",
        found="            lost = lost or _loss(check)\n",
        replaced="            lost = lost or None\n",
        tests=("tests/injection", "tests/execution"),
    ),
    Mutant(
        rule="what the store or the lease raises is no failure of the change",
        file="_execution/work.py",
        found="ours = (AuditStoreError, LockError, SystemBusyError)",
        replaced="ours = (LockError,)",
        tests=_EXECUTION,
    ),
    Mutant(
        rule="an append whose answer was lost is looked up",
        file="_audit/log.py",
        found="                done |= found\n",
        replaced="",
        tests=_LOG,
    ),
    Mutant(
        rule="a rollback is recorded before it begins",
        file="_execution/execution.py",
        found='            entries.append(self._entry(AuditState.ROLLBACK_STARTED, "rollback"))\n',
        replaced=('            entries.append(self._entry(AuditState.STARTED, "rollback"))\n'),
        tests=_EXECUTION,
    ),
    Mutant(
        rule="an unfinished change without a witness needs a person",
        file="_plan/decision.py",
        found="            return Action.MANUAL_INTERVENTION\n",
        replaced="            return Action.APPLY\n",
        tests=("tests/plan",),
    ),
    Mutant(
        rule="the digest of an entry covers the one before it",
        file="_records.py",
        found='f"{previous}\\n{_canonical(digested)}"',
        replaced='f"{_canonical(digested)}"',
        tests=("tests/test_records.py", *_LOG),
    ),
    Mutant(
        rule="a CHECKPOINT is written only when nothing is left",
        file="_execution/stages.py",
        found="if self._digest is None or self._pending != {change_id}:",
        replaced="if self._digest is None:",
        tests=(*_EXECUTION, *_RUN),
    ),
    Mutant(
        rule="passwords in URLs are redacted",
        file="_payload.py",
        found=r"""    (r"(://[^\s/:@]*:)(?!\d+/)(?:(?!://)\S)*@", r"\1***@"),
""",
        replaced="",
        tests=("tests/test_payload_errors.py",),
    ),
    Mutant(
        rule="what no database takes is made storable",
        file="_payload.py",
        found=r"""re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")""",
        replaced=r"""re.compile("[\x01-\x08\x0b-\x1f\x7f]")""",
        tests=("tests/test_payload.py",),
    ),
)
