"""What callers do with attachments: upload, download, list, delete, and who may."""
