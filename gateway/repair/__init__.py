"""Whether replicas are what the catalog says, and what brings them back: ciphertext, without keys."""
