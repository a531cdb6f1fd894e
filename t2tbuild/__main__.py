"""`python -m t2tbuild`, the same as the command `t2tbuild`."""

from t2tbuild.cli import main

main()
