"""Check whether the present code can go on with histories of other code."""

from __future__ import annotations

import json
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, cast

from mini_workflow.codecs.payload_codecs import Codecs
from mini_workflow.codecs.standard import StandardCodec, with_codecs
from mini_workflow.core.codec import Codec
from mini_workflow.core.history import History
from mini_workflow.core.run import Definition
from mini_workflow.engine.execution import Execution
from mini_workflow.engine.recording import Recording
from mini_workflow.errors import UsageError, WireError
from mini_workflow.testing.replaying import explain, replay
from mini_workflow.workflow import REGISTRY, Workflow

ObjectStore = str | Path | Recording | History | Execution[Any]
"""A file as `mini-workflow get` writes it, a folder of them, a recording, a history or an execution."""

SUFFIXES = (".json", ".jsonl")


def check_replay(
    histories: ObjectStore | Iterable[ObjectStore],
    workflows: Iterable[Workflow[Any, Any]] | None = None,
    *,
    codec: Codec | Codecs | None = None,
    turn_timeout: float | None = 10.0,
    trust: bool = False,
) -> int:
    """Replay histories against the code of this process. No task runs, and nothing is written.

    Args:
        histories: files or folders of files (``.json`` or ``.jsonl``), recordings, histories or
            executions: one of these, or several.
        workflows: the workflows to replay them with; by default all that are registered.
        codec: the codec of the values: for histories from AWS, whose pickled parts are signed,
            ``AWSRuntime.from_env().codec``; for others the payload codecs of the runtime that wrote
            them. Executions have their own codec.
        turn_timeout: seconds that one history may take; None for no limit.
        trust: load all values. Otherwise classes are found in imported modules only, and nothing is
            unpickled, so that a history of any source runs no code.

    Returns:
        The number of histories that were replayed.

    Raises:
        AssertionError: histories do not fit; the message has the event, both sides and the user's
            line for each of them.
        UsageError: there is no history, or a file holds none.
    """
    recordings = list(load_recordings(histories))
    if not recordings:
        raise UsageError(
            f"check_replay: there is no history in {histories!r}; write some with `mini-workflow "
            "export FOLDER`"
        )
    known: dict[str, Definition] = (
        {name: REGISTRY.get(name) for name in REGISTRY.names()}
        if workflows is None
        else {workflow.name: workflow for workflow in workflows}
    )
    given = None if codec is None else _codec(codec, trust)
    faults: list[str] = []
    for name, recording, own_codec in recordings:
        definition = known.get(recording.workflow)
        if definition is None:
            have = ", ".join(sorted(known)) or "none"
            faults.append(
                f"{name}: workflow {recording.workflow!r} is not among the workflows ({have}): import "
                "its module"
            )
            continue
        replayed = replay(
            recording,
            definition,
            codec=given or own_codec,
            turn_timeout=turn_timeout,
            trust=trust,
        )
        if not replayed.fits:
            faults.append(f"{name}: {explain(replayed)}")
    if faults:
        raise AssertionError(
            f"{len(faults)} of {len(recordings)} histories do not fit the code:\n"
            + "\n".join(faults)
        )
    return len(recordings)


def _codec(given: Codec | Codecs, trust: bool) -> Codec:
    if hasattr(given, "for_execution"):
        return cast("Codec", given)
    return with_codecs(StandardCodec(trust=trust), cast("Codecs", given))


def load_recordings(
    histories: ObjectStore | Iterable[ObjectStore],
) -> Generator[tuple[str, Recording, Codec | None]]:
    """Return the recordings, each with a name for messages, and its codec if it has one.

    Raises UsageError.
    """
    if isinstance(histories, Recording):
        yield histories.execution_id, histories, None
    elif isinstance(histories, Execution):
        yield histories.id, histories.recording(), histories.codec
    elif isinstance(histories, History):
        yield "history", Recording("", histories.started.workflow, histories), None
    elif isinstance(histories, (str, Path)):
        for name, recording in _from_path(Path(histories)):
            yield name, recording, None
    else:
        for one in histories:
            yield from load_recordings(one)


def _from_path(path: Path) -> Generator[tuple[str, Recording]]:
    if path.is_dir():
        for file in sorted(path.rglob("*")):
            if file.suffix in SUFFIXES and file.is_file():
                yield str(file), read_recording(file)
    else:
        yield str(path), read_recording(path)


def read_recording(path: Path) -> Recording:
    """Return the recording in a file: one JSON object, or one event per line.

    A file of lines does not have the execution's id: the name of the file is used. Raises UsageError.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"cannot read {path}: {error}; check the path and its permissions"
        ) from error
    try:
        if text.lstrip().startswith('{"event":'):
            return Recording.from_lines(path.stem, text.splitlines())
        return Recording.from_plain(json.loads(text))
    except (WireError, ValueError) as error:
        raise UsageError(
            f"{path} holds no recorded execution: {error}; give a file that `mini-workflow export` or "
            "`get --json` has written"
        ) from error
