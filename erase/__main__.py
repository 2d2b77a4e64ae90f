"""``python -m erase``."""

from erase.cli.main import main

if __name__ == "__main__":
    main()
