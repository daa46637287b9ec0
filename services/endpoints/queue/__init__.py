"""The doorbell: lane names published through arq on Redis, and wake-ups."""
