"""Recordings in object stores: URLs, a local mirror to read them, uploads from a spool."""
