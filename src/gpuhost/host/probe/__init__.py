"""Reading a machine. Changes nothing."""
