"""The command `gpuhost`: arguments, exit codes, the terminal."""
