"""python -m classicnets: the command line, with the current folder on sys.path."""

from classicnets.cli.main import main

if __name__ == "__main__":
    main()
