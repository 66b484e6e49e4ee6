"""What the subjects are called in figures and tables."""

DIRECT = "direct"
PLAIN = "plain"
TWO = "plain, two stores"
BARE = "bare"
SEALGATE = "Sealgate"
BACKUP = "Sealgate, one backup"
WORKERS = "Sealgate, two workers"
RCLONE = "rclone crypt"

_SINK = " → sink"
DIRECT_SINK = DIRECT + _SINK
PLAIN_SINK = PLAIN + _SINK
BARE_SINK = BARE + _SINK
TWO_SINK = TWO + _SINK
SEALGATE_SINK = SEALGATE + _SINK
BACKUP_SINK = BACKUP + _SINK

FLOORS = {
    BARE: PLAIN,
    TWO: PLAIN,
    SEALGATE: PLAIN,
    BACKUP: TWO,
    WORKERS: PLAIN,
    RCLONE: PLAIN,
    DIRECT: PLAIN,
    DIRECT_SINK: PLAIN_SINK,
    BARE_SINK: PLAIN_SINK,
    TWO_SINK: PLAIN_SINK,
    SEALGATE_SINK: PLAIN_SINK,
    BACKUP_SINK: TWO_SINK,
}
"""What each is held against in the table of ratios."""
