"""The settings: what an operator may write, checked when it is read."""
