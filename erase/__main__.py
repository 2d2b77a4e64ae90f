"""``python -m erase``."""

from erase.cli import main

if __name__ == "__main__":
    main()
