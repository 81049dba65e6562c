"""One plan, drawn."""
