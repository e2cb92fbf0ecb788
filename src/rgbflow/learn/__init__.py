"""Training, evaluation and calibration, and the pages that report them."""
