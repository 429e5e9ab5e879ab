"""Nodes that bring frames in."""
