"""The command line as `xner-ray` and as `python -m xner_ray`: signals first, then what takes time to import."""

from xner_ray import interrupts


def main() -> None:
    """Run the command line."""
    with interrupts.handled():
        from xner_ray.cli import main as run

        run()


if __name__ == "__main__":
    main()
