UPDATE endpoints SET next_index_at = '-infinity' WHERE owed_index_at IS NOT NULL;
ALTER TABLE endpoints DROP COLUMN owed_index_at;
