"""Matroska and WebM (RFC 9559, EBML: RFC 8794)."""
