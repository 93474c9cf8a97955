"""Known causes behind failed checks, as tables. Python 3.6."""
