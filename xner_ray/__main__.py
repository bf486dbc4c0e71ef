"""The command line as `python -m xner_ray`."""

from xner_ray.cli import main

if __name__ == "__main__":
    main()
