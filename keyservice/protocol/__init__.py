"""The messages and problems that the key service and its client share."""
