"""The functions by which an owner writes: one call is one round trip and one transaction."""

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
"""The lock of the row has a takeover wait for the commit, and the commit for a takeover."""

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
"""A commit that has nothing but events of executions whose keys are known."""

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

_PASSED = ", ".join(part.split()[0] for part in _PARAMETERS.split(","))

COMMIT_2: Final = f"""
    CREATE FUNCTION @commit_2(
        lease_ bigint, commits_ bigint,
        deleted_keys bigint[], deleted_lengths bigint[], deleted_at bigint[],
        dropped_keys bigint[], dropped_below bigint[], {_PARAMETERS}
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
        RETURN QUERY SELECT * FROM @commit_1(lease_, commits_, {_PASSED});
    END $$
"""
"""A commit that deletes executions, or drops the events of runs that are over, and all else."""

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
