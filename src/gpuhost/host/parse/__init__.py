"""Parse the output of programs and the files of a host. Pure."""
