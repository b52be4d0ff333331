-- History that somebody asked for, and how far it has come (actors/backfill.py).  A page of bars and the
-- cursor behind it are one transaction, so that no death loses or doubles any.

CREATE TABLE backfills (
    id           uuid PRIMARY KEY,               -- made of what was asked: the same is the same
    asked_at     timestamptz NOT NULL DEFAULT now(),
    start_at     timestamptz NOT NULL,
    end_at       timestamptz NOT NULL,           -- exclusive; how far parts are laid out
    moved_at     timestamptz NOT NULL DEFAULT now(), -- last page, or last asked for
    finished_at  timestamptz,
    retry_at     timestamptz,                    -- not before; NULL = now
    leased_until timestamptz,                    -- the owner works at it until then, or has died
    seconds      float8 NOT NULL,                -- planned; so are requests and rows
    price        float8 NOT NULL DEFAULT 0,      -- dollars that somebody must agree to
    cost         float8 NOT NULL DEFAULT 0,      -- dollars that were agreed to
    rows         bigint NOT NULL,
    requests     int NOT NULL,
    tries        int NOT NULL DEFAULT 0,         -- since the last page
    owner        uuid,
    state        text NOT NULL CHECK (state IN ('priced', 'running', 'done', 'cancelled', 'failed')),
    timeframe    text NOT NULL,
    vendor       text NOT NULL,
    symbols      text[] NOT NULL,
    silent       text[] NOT NULL DEFAULT '{}',   -- nothing was told of these
    waiting      text,                           -- why no page comes just now
    error        text
);
CREATE INDEX backfills_running ON backfills (moved_at) WHERE state = 'running';

CREATE TABLE backfill_parts (
    start_at timestamptz NOT NULL,
    end_at   timestamptz NOT NULL,
    rows     bigint NOT NULL DEFAULT 0,
    requests int NOT NULL DEFAULT 0,
    number   int NOT NULL,
    done     boolean NOT NULL DEFAULT false,
    backfill uuid NOT NULL REFERENCES backfills ON DELETE CASCADE,
    page     text,                               -- what the next request asks for; NULL = the beginning
    symbols  text[] NOT NULL,
    PRIMARY KEY (backfill, number)
);
