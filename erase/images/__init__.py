"""Images: what they are made from, making them, and reading them."""
