"""Answers between the wire and Python."""
