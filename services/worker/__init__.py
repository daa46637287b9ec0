"""The worker service: hears the doorbell on Redis and calls the endpoints service back."""
