-- When a company left the S&P 500, so that the seed list does not bring it back; NULL = it is in it, or never was.
ALTER TABLE tickers ADD COLUMN left_at timestamptz;
