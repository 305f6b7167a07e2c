"""The policy of copying a file: compare, write under a temporary name, verify, publish. Knows no SSH."""
