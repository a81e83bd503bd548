"""What the runners under test are made with; worker processes import it."""

import os
from functools import partial

from mini_workflow.codecs.signing import Signer
from mini_workflow.codecs.standard import StandardCodec
from mini_workflow.engine.executor import execute, execute_async
from mini_workflow.ports import TaskOutcome, TaskRequest
from mini_workflow.runners.processes import WorkerConfig

CODEC = StandardCodec()
EXECUTE = partial(execute, codec=CODEC)
EXECUTE_ASYNC = partial(execute_async, codec=CODEC)


def make(key: bytes) -> WorkerConfig:
    signer = Signer(key)

    def seal(data: bytes, execution_id: str, seq: int, attempt: int) -> bytes:
        return signer.sign(data, execution_id=execution_id, seq=seq, attempt=attempt)

    def unseal(data: bytes, execution_id: str, seq: int, attempt: int) -> bytes:
        return signer.verify(data, execution_id=execution_id, seq=seq, attempt=attempt)

    return WorkerConfig(EXECUTE, EXECUTE_ASYNC, seal, unseal)


def make_with_two_keys(engine: int) -> WorkerConfig:
    """The engine and its workers do not have the same key."""
    return make((b"engine" if os.getpid() == engine else b"worker") * 8)


def make_with_deaf_engine(engine: int) -> WorkerConfig:
    """The workers understand the engine, and the engine does not understand them."""
    equipment = make(b"key" * 12)
    if os.getpid() == engine:
        return WorkerConfig(
            equipment.execute, equipment.execute_async, equipment.seal, make(b"other" * 8).unseal
        )
    return equipment


def make_only_in(engine: int) -> WorkerConfig:
    if os.getpid() != engine:
        raise LookupError("the workers lack something")
    return make(b"key" * 12)


def make_with_broken_execute() -> WorkerConfig:
    def execute(request: TaskRequest) -> TaskOutcome:
        raise RuntimeError("execute is broken")

    async def execute_async(request: TaskRequest) -> TaskOutcome:
        raise RuntimeError("execute is broken")

    equipment = make(b"key" * 12)
    return WorkerConfig(execute, execute_async, equipment.seal, equipment.unseal)
