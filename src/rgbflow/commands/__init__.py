"""The command line's functions, a file for each group of commands, and how results are printed."""
