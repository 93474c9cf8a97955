"""Known causes of failed checks, as tables. Python 3.6."""
