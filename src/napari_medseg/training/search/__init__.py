"""Which plan to train by: other plans are tried in short trainings, and the better half goes on."""
