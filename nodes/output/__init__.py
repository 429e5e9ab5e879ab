"""Nodes that bring frames out."""
