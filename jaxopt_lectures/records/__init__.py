"""What a run leaves behind: files written whole, and where they were made."""
