"""The Pareto front, by hand and against its definition."""

import random

from t2tbuild.nas.pareto import pareto_front


def test_a_front_by_hand() -> None:
    assert pareto_front([(3, 3), (1, 4), (2, 2), (4, 1), (2, 5)]) == [1, 2, 3]
    assert pareto_front([(1, 1), (1, 1), (1, 2)]) == [0, 1]  # equal points do not dominate each other
    assert pareto_front([]) == []


def test_the_front_is_what_no_point_dominates() -> None:
    rng = random.Random(0)
    points = [(rng.randrange(9), rng.randrange(9), rng.randrange(9)) for _ in range(200)]
    wanted = [
        index
        for index, point in enumerate(points)
        if not any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)
    ]
    assert pareto_front(points) == wanted
