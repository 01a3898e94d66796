"""Work that goes on while the window answers: in threads, in turns, with progress and Cancel."""
