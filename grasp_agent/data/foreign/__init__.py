"""Data sets of other programs, as data folders of ours and back."""
