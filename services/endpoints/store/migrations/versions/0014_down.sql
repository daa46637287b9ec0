ALTER TABLE endpoint_indexes DROP COLUMN answered_sequence;
