"""loracast."""
