"""Text that programs and files of a host say, as values. Pure."""
