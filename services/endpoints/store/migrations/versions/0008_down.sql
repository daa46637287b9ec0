ALTER TABLE endpoints DROP COLUMN quiet_until;
ALTER TABLE queue_pauses
    DROP COLUMN reason,
    DROP COLUMN paused_by;
