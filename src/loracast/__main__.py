"""`python -m loracast` is the command `loracast`."""

from loracast.cli import main

if __name__ == "__main__":
    main()
