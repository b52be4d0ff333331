-- The spine: who is followed, what they cost, what the tree did.  PostgreSQL 14 to 18.
-- Market prices are float8 (they come and go as such, exactly); columns stand widest first, so that
-- nothing is lost to alignment.

CREATE TABLE tickers (
    id       smallint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    symbol   text NOT NULL UNIQUE,               -- dot form: BRK.B
    name     text NOT NULL,
    sector   text,
    kind     text NOT NULL,                      -- stock | etf
    active   boolean NOT NULL DEFAULT true,
    asked_at timestamptz                         -- last asked for by somebody; NULL = of the seed list
);

-- The newest quote of each ticker.
CREATE TABLE quotes (
    at             timestamptz NOT NULL,         -- when the vendor says it was true
    fetched_at     timestamptz NOT NULL,         -- when it was last seen to differ
    last           float8,
    bid            float8,
    ask            float8,
    bid_size       bigint,
    ask_size       bigint,
    open           float8,
    high           float8,
    low            float8,
    close          float8,
    previous_close float8,
    volume         bigint,
    counted        bigint,                       -- how much of the day's volume the 1-minute bars hold
    change         float8,
    change_percent float8,
    high_52w       float8,
    low_52w        float8,
    counted_on     date NOT NULL,                -- the trading day of that
    ticker_id      smallint PRIMARY KEY REFERENCES tickers,
    delayed        boolean NOT NULL DEFAULT false,
    source         text NOT NULL,
    name           text
) WITH (fillfactor = 50);                        -- rewritten in place each refresh

-- One partition a UTC day, made and dropped by actors/store/bars.py.  No foreign key: a check per bar
-- costs more than the bar, and ticker ids are never given twice.
CREATE TABLE bars_1m (
    at        timestamptz NOT NULL,              -- start of the minute
    open      float8 NOT NULL,
    high      float8 NOT NULL,
    low       float8 NOT NULL,
    close     float8 NOT NULL,
    volume    bigint NOT NULL,
    ticker_id smallint NOT NULL,
    polled    boolean NOT NULL,                  -- built from quotes: high and low are of what was seen
    source    text NOT NULL,                     -- inline: 8 bytes a bar more than an id, one join less
    PRIMARY KEY (ticker_id, at)
) PARTITION BY RANGE (at);

CREATE TABLE bars_1d (
    open      float8 NOT NULL,
    high      float8 NOT NULL,
    low       float8 NOT NULL,
    close     float8 NOT NULL,
    volume    bigint NOT NULL,
    day       date NOT NULL,
    ticker_id smallint NOT NULL,
    polled    boolean NOT NULL,                  -- of a day that was not over yet
    source    text NOT NULL,
    PRIMARY KEY (ticker_id, day)
);

-- Every start and stop in the tree; event_id makes a repeat of a buffered row harmless.
CREATE TABLE actor_history (
    event_id      uuid PRIMARY KEY,
    at            timestamptz NOT NULL,
    boot          text NOT NULL,
    child         text NOT NULL,
    generation    integer NOT NULL,
    event         text NOT NULL,                 -- start | stop | gave_up
    pid           integer,
    node          text,
    cause         text,
    memory_mb     real,
    age_seconds   float8,
    drain_seconds float8,
    gap_seconds   float8,
    detail        jsonb NOT NULL DEFAULT '{}'
);
CREATE INDEX actor_history_at ON actor_history (at);
CREATE INDEX actor_history_child ON actor_history (child, at);

-- A slot of a job is started at most once, because it is one row.
CREATE TABLE job_runs (
    job         text NOT NULL,
    slot        timestamptz NOT NULL,
    boot        text NOT NULL,
    state       text NOT NULL CHECK (state IN ('running', 'done', 'failed', 'missed', 'lost')),
    claimed_at  timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    seconds     float8,
    error       text,
    result      jsonb,
    PRIMARY KEY (job, slot)                      -- read backwards it is "the latest of each job"
);
CREATE INDEX job_runs_claimed ON job_runs (claimed_at);
CREATE INDEX job_runs_running ON job_runs (job) WHERE state = 'running';

CREATE TABLE oauth_tokens (
    vendor     text PRIMARY KEY,
    sealed     bytea NOT NULL,                   -- encrypted by the provider pool
    updated_at timestamptz NOT NULL DEFAULT now()
);
