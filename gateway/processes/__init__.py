"""Several processes on one port, and commands that end with who started them."""
