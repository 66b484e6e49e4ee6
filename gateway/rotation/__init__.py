"""New roots, new KEKs, new data keys: in turns, online, until the old ones can be retired."""
