-- How often an attempt of a suspect lane began and never ended, which `rescues` counted together with lost calls.
ALTER TABLE queue_jobs ADD COLUMN unended smallint NOT NULL DEFAULT 0;
