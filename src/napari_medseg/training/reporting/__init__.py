"""What a training leaves to read: its log, a report in one HTML file, and the trackers that others watch."""
