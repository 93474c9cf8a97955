"""Known causes behind failed checks, as tables."""
