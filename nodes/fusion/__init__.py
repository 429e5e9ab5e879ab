"""The node that fuses, and what it runs on."""
