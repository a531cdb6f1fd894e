"""The tables of Optuna's RDBStorage that are read and written in few statements, with the columns that are used."""

from optuna.trial import TrialState
from sqlalchemy import Column, DateTime, Enum, Float, Integer, MetaData, String, Table

_OPTUNA = MetaData()
STUDIES = Table("studies", _OPTUNA, Column("study_id", Integer, primary_key=True))
TRIALS = Table(
    "trials",
    _OPTUNA,
    Column("trial_id", Integer, primary_key=True),
    Column("study_id", Integer),
    Column("number", Integer),
    Column("state", Enum(TrialState)),
    Column("datetime_start", DateTime),  # UTC
    Column("datetime_complete", DateTime),
)
PARAMS = Table(
    "trial_params",
    _OPTUNA,
    Column("trial_id", Integer),
    Column("param_name", String),
    Column("param_value", Float),
    Column("distribution_json", String),
)
USER_ATTRS, SYSTEM_ATTRS = (
    Table(name, _OPTUNA, Column("trial_id", Integer), Column("key", String), Column("value_json", String))
    for name in ("trial_user_attributes", "trial_system_attributes")
)
HEARTBEATS = Table("trial_heartbeats", _OPTUNA, Column("trial_id", Integer), Column("heartbeat", DateTime))
