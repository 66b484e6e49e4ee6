"""HTTP: requests to use cases and back. No use case knows that this exists."""
