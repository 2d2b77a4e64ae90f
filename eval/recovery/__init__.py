"""Does it come back? What attacks found, held against their bounds."""
