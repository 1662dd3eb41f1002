"""Which optimizer, with which numbers, on this task: the protocol, its statistics, what it leaves behind."""
