-- What is spent of each vendor's limits, written down before it is spent (actors/providers/limits.py).

CREATE TABLE vendor_spend (
    at      timestamptz NOT NULL,                -- rolling: spent until then; calendar: the window's begin
    spent   bigint NOT NULL DEFAULT 0,           -- calendar: granted in this window, in requests or bytes
    level   float8 NOT NULL DEFAULT 0,           -- rolling: tokens left at that time
    vendor  text NOT NULL,
    limited text NOT NULL,                       -- requests/h, bytes/month, symbols/month …
    symbols text[] NOT NULL DEFAULT '{}',        -- asked for in this window, where the plan counts them
    PRIMARY KEY (vendor, limited)
);
