"""Runs `python -m gateway` as the command `sealgate`."""

from gateway.cli import main

main()
