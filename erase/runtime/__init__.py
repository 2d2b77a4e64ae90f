"""What everything stands on: errors, files, processes, devices, random streams."""
