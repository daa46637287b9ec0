-- Who paused what, and why; and until when an endpoint that answers asks not to be called.
ALTER TABLE queue_pauses
    ADD COLUMN paused_by text,
    ADD COLUMN reason    text;
ALTER TABLE endpoints ADD COLUMN quiet_until timestamptz;
