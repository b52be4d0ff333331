-- Whose volumes a quote's count is of: another vendor may have told the quote itself since, without a volume.
ALTER TABLE quotes ADD COLUMN counted_by text;
UPDATE quotes SET counted_by = source WHERE counted IS NOT NULL;
