"""Plans that a model proposes."""
