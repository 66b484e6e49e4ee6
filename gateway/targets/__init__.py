"""The targets: which is the primary, which to ask first, how many must hold an upload."""
