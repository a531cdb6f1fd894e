"""Settings and losses for tests of a search on a supernet."""

from dataclasses import replace

from t2tbuild import predict_cost
from t2tbuild.nas.plan import Plan
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.supernet import SupernetSpec


def with_supernet(planned: Plan, **changes: object) -> Plan:
    settings = planned.search.supernet
    assert settings is not None
    supernet = SupernetSpec.model_validate(settings.model_dump() | changes)
    return replace(planned, search=planned.search.model_copy(update={"supernet": supernet}))


def loss_of(model: ModelSpec) -> float:
    """A loss that the narrow, deep members have the lowest of."""
    return 0.01 * model.backbone.embed_dim - 0.02 * model.backbone.num_blocks + 1e-9 * predict_cost(model).macs
