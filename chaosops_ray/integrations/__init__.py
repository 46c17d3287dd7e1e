"""Other projects' formats and interfaces, each a leaf that only the command line imports."""
