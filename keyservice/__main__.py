"""`python -m keyservice` is `sealgate-keyservice`."""

from keyservice.cli.main import main

if __name__ == "__main__":
    main()
