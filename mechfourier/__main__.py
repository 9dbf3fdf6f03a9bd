"""`python -m mechfourier` is the `mechfourier` command."""

from mechfourier.cli import main

if __name__ == "__main__":
    main()
