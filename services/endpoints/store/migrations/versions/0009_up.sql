-- A batch is bounded in bytes before any of them are read, which a compressed value hides a hundredfold.
ALTER TABLE queue_jobs ALTER COLUMN args SET STORAGE EXTERNAL;
