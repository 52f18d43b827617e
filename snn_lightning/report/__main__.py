"""`python -m snn_lightning.report` is `snn-compare`."""

from snn_lightning.report.compare.command import main

if __name__ == "__main__":
    main()
