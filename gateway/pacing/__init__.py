"""How fast, how much at once, how long to wait: for work that goes on beside requests."""
