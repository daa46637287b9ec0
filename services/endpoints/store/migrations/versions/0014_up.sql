-- The number of the fetch that an endpoint answered last for this index, which stays when an operator has it fetched again:
-- older registrations are late from then on, whatever comes of that. Null: it never answered.
ALTER TABLE endpoint_indexes ADD COLUMN answered_sequence bigint;
UPDATE endpoint_indexes SET answered_sequence = sequence WHERE stats <> '{}';
