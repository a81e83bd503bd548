"""Define the functions by which an owner writes: one call is one round trip and one transaction."""

from __future__ import annotations

from typing import Final

HEAD: Final = (
    ("workflow", "text"),
    ("status", "text"),
    ("started_at", "bigint"),
    ("closed_at", "bigint"),
    ("busy", "boolean"),
    ("wake_at", "bigint"),
    ("blocked_kind", "text"),
    ("blocked_reason", "text"),
    ("run", "bigint"),
    ("base", "bigint"),
    ("parent", "text"),
    ("tags", "text"),
    ("waits", "text"),
    ("progress", "text"),
)
"""The columns of a head but for its id, in the order of the fields of `Head`, and their types."""

_NAMES = ", ".join(name for name, _ in HEAD)

NOW: Final = "(extract(epoch FROM clock_timestamp()) * 1000)::bigint"
"""The time of the server in milliseconds."""

_FENCE = """
    UPDATE @owners SET commits = commits + 1 WHERE id = lease_ AND commits = commits_;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the lease does not stand any more' USING ERRCODE = 'MW001';
    END IF;
"""
"""The lock of the row makes a takeover wait for the commit, and a commit wait for a takeover."""

APPEND_1: Final = f"""
    CREATE FUNCTION @append_1(
        lease_ bigint, commits_ bigint, keys_ bigint[], numbers_ bigint[], bodies_ text[]
    ) RETURNS void LANGUAGE plpgsql AS $$
    BEGIN
        {_FENCE}
        INSERT INTO @events (execution, number, body)
            SELECT * FROM unnest(keys_, numbers_, bodies_);
    END $$
"""
"""A commit of events alone, of executions whose keys are known."""

_CREATED = ", ".join(f"created_{name} {kind}[]" for name, kind in HEAD)
_CHANGED = ", ".join(f"changed_{name} {kind}[]" for name, kind in HEAD)

_PARAMETERS = f"""
        created_id text[], created_partition bigint[], {_CREATED},
        changed bigint[], {_CHANGED},
        event_refs bigint[], event_numbers bigint[], event_bodies text[],
        tried bigint[], tries_ bigint[],
        unparked bigint[], parked_refs bigint[], parked_bodies text[],
        taken_refs bigint[], taken_numbers bigint[],
        posted_refs bigint[], posted_ids text[], posted_bodies text[], posted_digests text[]
"""

COMMIT_1: Final = f"""
    CREATE FUNCTION @commit_1(
        lease_ bigint, commits_ bigint, {_PARAMETERS}
    ) RETURNS TABLE (made_keys bigint[], addresses text[]) LANGUAGE plpgsql
    -- The plans are kept: made while a table was empty, one would read all of it later.
    SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        homes_ bigint[];
        made_ bigint[] := '{{}}';
        rung_ text[] := '{{}}';
    BEGIN
        IF lease_ IS NOT NULL THEN
            {_FENCE}
        ELSE
            -- A client: what it creates is for somebody else. The lock keeps the partitions there.
            SELECT array_agg(h.id) INTO homes_ FROM (
                SELECT p.id FROM @partitions AS p WHERE p.id IN (
                    SELECT DISTINCT ON (o.id) s.id
                    FROM @partitions AS s JOIN @owners AS o ON o.id = s.owner
                    WHERE o.until >= {NOW} AND o.address <> '' ORDER BY o.id, random()
                ) ORDER BY random() FOR KEY SHARE OF p SKIP LOCKED
            ) AS h;
            IF homes_ IS NULL THEN
                SELECT array_agg(h.id) INTO homes_ FROM (
                    SELECT p.id FROM @partitions AS p LIMIT 1 FOR KEY SHARE OF p SKIP LOCKED
                ) AS h;
            END IF;
            IF homes_ IS NULL THEN
                INSERT INTO @partitions (owner) VALUES (NULL) RETURNING ARRAY[id] INTO homes_;
            END IF;
            created_partition := ARRAY(
                SELECT homes_[1 + i % cardinality(homes_)]
                FROM generate_series(1, cardinality(created_id)) AS i
            );
        END IF;
        IF cardinality(created_id) > 0 THEN
            WITH wanted AS (
                SELECT * FROM unnest(
                    created_id, created_partition, {", ".join(f"created_{name}" for name, _ in HEAD)}
                ) WITH ORDINALITY AS w (id, partition, {_NAMES}, place)
            ), inserted AS (
                INSERT INTO @executions (id, partition, {_NAMES})
                    SELECT id, partition, {_NAMES} FROM wanted ORDER BY place
                    ON CONFLICT (id) DO NOTHING RETURNING id, key
            )
            SELECT array_agg(inserted.key ORDER BY wanted.place) INTO made_
                FROM wanted LEFT JOIN inserted ON inserted.id = wanted.id;
            UPDATE @owners SET made = made_ WHERE owners.id = lease_;
        END IF;
        -- A negative reference is the place of what was to be created: nothing is written for those
        -- that somebody else has created before.
        IF cardinality(event_refs) > 0 THEN
            INSERT INTO @events (execution, number, body)
                SELECT CASE WHEN e.ref < 0 THEN made_[-e.ref] ELSE e.ref END, e.number, e.body
                FROM unnest(event_refs, event_numbers, event_bodies) AS e (ref, number, body)
                WHERE e.ref > 0 OR made_[-e.ref] IS NOT NULL;
        END IF;
        IF cardinality(changed) > 0 THEN
            UPDATE @executions AS x SET {", ".join(f"{name} = c.{name}" for name, _ in HEAD)}
                FROM unnest(
                    changed, {", ".join(f"changed_{name}" for name, _ in HEAD)}
                ) AS c (ref, {_NAMES})
                WHERE x.key = c.ref;
        END IF;
        IF cardinality(tried) > 0 THEN
            UPDATE @executions AS x SET tries = t.tries
                FROM unnest(tried, tries_) AS t (ref, tries)
                WHERE x.key = CASE WHEN t.ref < 0 THEN made_[-t.ref] ELSE t.ref END;
        END IF;
        IF cardinality(unparked) > 0 THEN
            DELETE FROM @parked WHERE execution = ANY (unparked);
        END IF;
        IF cardinality(parked_refs) > 0 THEN
            INSERT INTO @parked (execution, body)
                SELECT CASE WHEN p.ref < 0 THEN made_[-p.ref] ELSE p.ref END, p.body
                FROM unnest(parked_refs, parked_bodies) WITH ORDINALITY AS p (ref, body, place)
                WHERE p.ref > 0 OR made_[-p.ref] IS NOT NULL ORDER BY p.place;
        END IF;
        IF cardinality(taken_refs) > 0 THEN
            DELETE FROM @mailbox AS m USING unnest(taken_refs, taken_numbers) AS t (ref, number)
                WHERE m.number = t.number AND m.execution = t.ref;
        END IF;
        IF cardinality(posted_refs) > 0 THEN
            INSERT INTO @mailbox (execution, body, digest)
                SELECT x.key, p.body, p.digest
                FROM unnest(posted_refs, posted_ids, posted_bodies, posted_digests)
                    WITH ORDINALITY AS p (ref, id, body, digest, place)
                    JOIN @executions AS x ON x.id = p.id
                WHERE p.ref > 0 OR made_[-p.ref] IS NOT NULL ORDER BY p.place
                ON CONFLICT (execution, digest) DO NOTHING;
            SELECT array_agg(DISTINCT o.address) INTO rung_
                FROM @executions AS x
                    JOIN @partitions AS s ON s.id = x.partition JOIN @owners AS o ON o.id = s.owner
                WHERE x.id = ANY (posted_ids) AND o.id IS DISTINCT FROM lease_ AND o.address <> '';
        END IF;
        RETURN QUERY SELECT made_, rung_;
    END $$
"""


def _passed(parameters: str) -> str:
    return ", ".join(part.split()[0] for part in parameters.split(","))


_REMOVED = """
        deleted_keys bigint[], deleted_lengths bigint[], deleted_at bigint[],
        dropped_keys bigint[], dropped_below bigint[]
"""

COMMIT_2: Final = f"""
    CREATE FUNCTION @commit_2(
        lease_ bigint, commits_ bigint, {_REMOVED}, {_PARAMETERS}
    ) RETURNS TABLE (made_keys bigint[], addresses text[]) LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    #variable_conflict use_column
    BEGIN
        WITH wanted AS (
            SELECT * FROM unnest(deleted_keys, deleted_lengths, deleted_at) AS w (key, length, at)
        ), gone AS (
            DELETE FROM @executions AS x USING wanted AS w WHERE x.key = w.key
                RETURNING x.id, w.length, w.at
        )
        INSERT INTO @deleted AS d (id, events, at) SELECT id, length, at FROM gone
            ON CONFLICT (id) DO UPDATE SET events = d.events + excluded.events, at = excluded.at;
        DELETE FROM @tags WHERE execution = ANY (deleted_keys);
        DELETE FROM @parked WHERE execution = ANY (deleted_keys);
        DELETE FROM @mailbox WHERE execution = ANY (deleted_keys);
        INSERT INTO @leftovers (execution, below)
            SELECT key, NULL::bigint FROM unnest(deleted_keys) AS d (key)
            UNION ALL SELECT * FROM unnest(dropped_keys, dropped_below)
            ON CONFLICT (execution) DO UPDATE SET below = excluded.below;
        RETURN QUERY SELECT * FROM @commit_1(lease_, commits_, {_passed(_PARAMETERS)});
    END $$
"""
"""A commit that may also delete executions, or drop the events of earlier runs."""

SWEEP_1: Final = """
    CREATE FUNCTION @sweep_1(before_ bigint, limit_ bigint) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        one_ record;
        left_ bigint := limit_;
        gone_ bigint;
    BEGIN
        FOR one_ IN
            SELECT execution, below FROM @leftovers ORDER BY execution LIMIT limit_
                FOR UPDATE SKIP LOCKED
        LOOP
            DELETE FROM @events WHERE execution = one_.execution AND number IN (
                SELECT number FROM @events
                WHERE execution = one_.execution
                    AND number < coalesce(one_.below, 9223372036854775807)
                ORDER BY number LIMIT left_
            );
            GET DIAGNOSTICS gone_ = ROW_COUNT;
            IF gone_ < left_ THEN
                DELETE FROM @leftovers WHERE execution = one_.execution;
                IF one_.below IS NULL THEN
                    -- What was sent to it while it was deleted.
                    DELETE FROM @mailbox WHERE execution = one_.execution;
                END IF;
            END IF;
            left_ := left_ - gone_ - 1;
            EXIT WHEN left_ <= 0;
        END LOOP;
        DELETE FROM @deleted WHERE id IN (
            SELECT d.id FROM @deleted AS d
            WHERE d.at <= before_ AND NOT EXISTS (SELECT 1 FROM @executions AS x WHERE x.id = d.id)
            LIMIT limit_
        );
        RETURN EXISTS (SELECT 1 FROM @leftovers) OR EXISTS (
            SELECT 1 FROM @deleted AS d
            WHERE d.at <= before_ AND NOT EXISTS (SELECT 1 FROM @executions AS x WHERE x.id = d.id)
        );
    END $$
"""
"""Remove a few of the events that nobody can read, and forget old deletions."""

_CHUNKS = """
        names_ text[], sources_ bigint[], attempts_ bigint[], positions_ bigint[], bodies_ text[]
"""

WRITE_CHUNKS_1: Final = f"""
    CREATE FUNCTION @write_chunks_1(
        keys_ bigint[], {_CHUNKS}, most_chunks_ bigint, most_bytes_ bigint, most_streams_ bigint
    ) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        answers_ text[] := array_fill('missing'::text, ARRAY[cardinality(keys_)]);
        one_ record;
        execution_ bigint;
        name_ text COLLATE "C";
        stream_ bigint;
        last_ bigint;
        size_ bigint;
        grown_ boolean := false;
        source_ bigint;
        attempt_ bigint;
        position_ bigint;
    BEGIN
        -- In one order for all writers: the row of a stream is locked until the end, so that its
        -- chunks appear in the order of their numbers.
        FOR one_ IN
            SELECT * FROM unnest(keys_, {_passed(_CHUNKS)}) WITH ORDINALITY
                AS w (execution, name, source, attempt, position, body, place)
            WHERE w.execution IS NOT NULL ORDER BY w.execution, w.name COLLATE "C", w.place
        LOOP
            IF one_.execution IS DISTINCT FROM execution_ OR one_.name IS DISTINCT FROM name_ THEN
                IF grown_ THEN
                    UPDATE @streams SET last = last_, bytes = size_ WHERE key = stream_;
                END IF;
                execution_ := one_.execution;
                name_ := one_.name;
                source_ := NULL;
                grown_ := false;
                SELECT key, last, bytes INTO stream_, last_, size_ FROM @streams
                    WHERE execution = execution_ AND name = name_ FOR NO KEY UPDATE;
                IF NOT FOUND AND (most_streams_ IS NULL OR most_streams_ > (
                    SELECT count(*) FROM @streams WHERE execution = execution_
                )) THEN
                    INSERT INTO @streams AS s (execution, name) VALUES (execution_, name_)
                        ON CONFLICT (execution, name) DO UPDATE SET last = s.last
                        RETURNING s.key, s.last, s.bytes INTO stream_, last_, size_;
                END IF;
            END IF;
            IF stream_ IS NOT NULL AND source_ IS DISTINCT FROM one_.source THEN
                source_ := one_.source;
                SELECT attempt, position INTO attempt_, position_ FROM @chunks
                    WHERE stream = stream_ AND source = source_ ORDER BY number DESC LIMIT 1;
            END IF;
            IF stream_ IS NULL THEN
                answers_[one_.place] := 'full';
            ELSIF (one_.attempt, one_.position) <= (attempt_, position_) THEN
                answers_[one_.place] := 'known';
            ELSIF last_ >= most_chunks_ OR size_ + octet_length(one_.body) > most_bytes_ THEN
                answers_[one_.place] := 'full';
            ELSE
                answers_[one_.place] := 'kept';
                grown_ := true;
                last_ := last_ + 1;
                size_ := size_ + octet_length(one_.body);
                INSERT INTO @chunks (stream, number, source, attempt, position, restarts, body)
                    VALUES (
                        stream_, last_, source_, one_.attempt, one_.position,
                        source_ > 0 AND coalesce(attempt_ < one_.attempt, false), one_.body
                    );
                attempt_ := one_.attempt;
                position_ := one_.position;
            END IF;
        END LOOP;
        IF grown_ THEN
            UPDATE @streams SET last = last_, bytes = size_ WHERE key = stream_;
        END IF;
        RETURN answers_;
    END $$
"""
"""The decision of `StreamState.admit`, made in the database. Without bounds the last three are NULL."""

APPEND_CHUNKS_1: Final = f"""
    CREATE FUNCTION @append_chunks_1(
        ids_ text[], {_CHUNKS}, most_chunks_ bigint, most_bytes_ bigint, most_streams_ bigint
    ) RETURNS text[] LANGUAGE plpgsql SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        keys_ bigint[];
    BEGIN
        WITH held AS MATERIALIZED (
            -- None of them is deleted before the end of this.
            SELECT id, key FROM @executions WHERE id = ANY (ids_) ORDER BY id FOR KEY SHARE
        )
        SELECT array_agg(held.key ORDER BY w.place) INTO keys_
            FROM unnest(ids_) WITH ORDINALITY AS w (id, place) LEFT JOIN held ON held.id = w.id;
        RETURN @write_chunks_1(
            keys_, {_passed(_CHUNKS)}, most_chunks_, most_bytes_, most_streams_
        );
    END $$
"""

COMMIT_3: Final = f"""
    CREATE FUNCTION @commit_3(
        lease_ bigint, commits_ bigint, chunk_refs bigint[], {_CHUNKS}, {_REMOVED}, {_PARAMETERS}
    ) RETURNS TABLE (made_keys bigint[], addresses text[]) LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        done_ record;
    BEGIN
        SELECT * INTO done_ FROM @commit_2(
            lease_, commits_, {_passed(_REMOVED)}, {_passed(_PARAMETERS)}
        );
        PERFORM @write_chunks_1(
            ARRAY(
                SELECT CASE WHEN c.ref < 0 THEN done_.made_keys[-c.ref] ELSE c.ref END
                FROM unnest(chunk_refs) WITH ORDINALITY AS c (ref, place) ORDER BY c.place
            ),
            {_passed(_CHUNKS)}, NULL, NULL, NULL
        );
        RETURN QUERY SELECT done_.made_keys, done_.addresses;
    END $$
"""
"""A commit that may also write to streams."""

_OTHERWISE = """
        asking_refs bigint[], asked_ids text[], otherwise_bodies text[], otherwise_digests text[]
"""

COMMIT_4: Final = f"""
    CREATE FUNCTION @commit_4(
        lease_ bigint, commits_ bigint, read_ bigint[], {_OTHERWISE},
        chunk_refs bigint[], {_CHUNKS}, {_REMOVED}, {_PARAMETERS}
    ) RETURNS TABLE (made_keys bigint[], addresses text[]) LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        done_ record;
        held_ bigint;
    BEGIN
        IF cardinality(deleted_keys) > 0 THEN
            -- Whoever posts to one of them holds it until the message is there: no such lock is waited for.
            PERFORM 1 FROM @executions WHERE key = ANY (deleted_keys) FOR UPDATE SKIP LOCKED;
            GET DIAGNOSTICS held_ = ROW_COUNT;
            IF held_ < (SELECT count(*) FROM @executions WHERE key = ANY (deleted_keys)) OR EXISTS (
                SELECT 1 FROM @mailbox AS m
                WHERE m.execution = ANY (deleted_keys) AND m.number <> ALL (read_)
            ) THEN
                RAISE EXCEPTION 'there are messages to what is to be deleted' USING ERRCODE = 'MW002';
            END IF;
        END IF;
        SELECT * INTO done_ FROM @commit_3(
            lease_, commits_, chunk_refs, {_passed(_CHUNKS)}, {_passed(_REMOVED)},
            {_passed(_PARAMETERS)}
        );
        INSERT INTO @mailbox (execution, body, digest)
            SELECT CASE WHEN p.ref < 0 THEN done_.made_keys[-p.ref] ELSE p.ref END, p.body, p.digest
            FROM unnest({_passed(_OTHERWISE)})
                WITH ORDINALITY AS p (ref, id, body, digest, place)
            WHERE (p.ref > 0 OR done_.made_keys[-p.ref] IS NOT NULL)
                AND NOT EXISTS (SELECT 1 FROM @executions AS x WHERE x.id = p.id)
            ORDER BY p.place
            ON CONFLICT (execution, digest) DO NOTHING;
        RETURN QUERY SELECT done_.made_keys, done_.addresses;
    END $$
"""
"""A commit that may also delete executions unless there are unread messages for them, or send messages to
executions that may not exist."""

HOLD_EXECUTION: Final = """
    CREATE FUNCTION @hold_execution() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    BEGIN
        PERFORM 1 FROM @executions WHERE key = NEW.execution FOR KEY SHARE;
        IF FOUND THEN
            RETURN NEW;
        END IF;
        RETURN NULL;
    END $$
"""
"""A trigger: a message is inserted before its execution is deleted, which sees it, or is dropped."""

LEAVE_STREAMS: Final = """
    CREATE FUNCTION @leave_streams() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        WITH gone AS (
            DELETE FROM @streams AS s USING deleted_executions AS x WHERE s.execution = x.key
                RETURNING s.key
        )
        INSERT INTO @stream_leftovers (stream) SELECT key FROM gone;
        RETURN NULL;
    END $$
"""
"""A trigger, so that an older release without streams deletes them, too."""

LEAVE_RESULTS: Final = """
    CREATE FUNCTION @leave_results() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM @results AS r USING deleted_executions AS x WHERE r.execution = x.key;
        RETURN NULL;
    END $$
"""
"""A trigger, for the same reason."""

SWEEP_2: Final = """
    CREATE FUNCTION @sweep_2(before_ bigint, limit_ bigint) RETURNS boolean LANGUAGE plpgsql
    SET enable_seqscan = off AS $$
    #variable_conflict use_column
    DECLARE
        more_ boolean := @sweep_1(before_, limit_);
        stream_ bigint;
        left_ bigint := limit_;
        gone_ bigint;
    BEGIN
        FOR stream_ IN
            SELECT stream FROM @stream_leftovers ORDER BY stream LIMIT limit_
                FOR UPDATE SKIP LOCKED
        LOOP
            DELETE FROM @chunks WHERE stream = stream_ AND number IN (
                SELECT number FROM @chunks WHERE stream = stream_ ORDER BY number LIMIT left_
            );
            GET DIAGNOSTICS gone_ = ROW_COUNT;
            IF gone_ < left_ THEN
                DELETE FROM @stream_leftovers WHERE stream = stream_;
            END IF;
            left_ := left_ - gone_ - 1;
            EXIT WHEN left_ <= 0;
        END LOOP;
        RETURN more_ OR EXISTS (SELECT 1 FROM @stream_leftovers);
    END $$
"""
"""Remove a few of the chunks that nobody can read, too."""
