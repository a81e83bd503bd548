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

COMMIT_1: Final = f"""
    CREATE FUNCTION @commit_1(
        lease_ bigint, commits_ bigint,
        created_id text[], created_partition bigint[], {_CREATED},
        changed bigint[], {_CHANGED},
        event_refs bigint[], event_numbers bigint[], event_bodies text[],
        tried bigint[], tries_ bigint[],
        unparked bigint[], parked_refs bigint[], parked_bodies text[],
        taken_refs bigint[], taken_numbers bigint[],
        posted_refs bigint[], posted_ids text[], posted_bodies text[], posted_digests text[]
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
