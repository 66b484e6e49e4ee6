"""The embedded stack: a whole Sealgate on one machine, in one folder, and a tour of it.

For trying and developing. It starts the real commands as processes of their own; nothing here is used
by a gateway in production.
"""
