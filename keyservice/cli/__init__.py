"""The command `sealgate-keyservice`, one file a command group."""
