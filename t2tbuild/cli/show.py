"""t2tbuild show: print a spec with its defaults filled in."""

import sys

from t2tbuild.cli.console import print_json
from t2tbuild.cli.options import Json, Overrides, SpecArgument
from t2tbuild.cli.spec import print_taken


def show(spec: SpecArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a spec with all its defaults filled in, and where each value came from.

    Add train={} to see the default recipe of a spec without a train section.

    Example: t2tbuild show t2t_vit_14 model.image_size=384
    """
    from t2tbuild.report.resolved import resolved_values, resolved_yaml
    from t2tbuild.spec.load import read_any

    document = read_any(spec, overrides or ())
    print_taken(spec)
    if as_json:
        print_json(resolved_values(document))
    else:
        sys.stdout.write(resolved_yaml(document))
