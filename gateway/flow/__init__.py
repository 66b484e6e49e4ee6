"""Bytes in flight: client to segments to stores, with back-pressure, in bounded memory."""
