"""Files as such: whole or damaged, locked, replaced at once, and within the memory that there is."""
