"""The Sealgate format: seal and open attachments, with no input or output of its own.

Every byte is specified in docs/format.md. Words used here:

- *body*: the ciphertext of one version of an attachment, one or more segments end to end;
- *segment*: an independently sealed piece of a body, one Cobblestone-256 message;
- *chunk*: 16 KiB of a segment, the unit that is authenticated;
- *core*: the public facts about a body (ids, time, sizes, salts, ciphertext digests);
- *attributes*: what is secret beside the body (name, type, user metadata, digests);
- *wrap*: the data key (DEK), sealed under a tenant's key-encryption key (KEK);
- *envelope*: core, sealed attributes and wraps in one record, with a small body inline.

Import from the modules; this package guarantees only what they export.
"""
