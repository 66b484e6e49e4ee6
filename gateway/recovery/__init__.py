"""What comes back from backups: attachments, the catalog, and the proof by drills that they do."""
