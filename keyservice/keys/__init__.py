"""KEKs in memory and in their records: opened, cached, sealed, wrapped anew."""
