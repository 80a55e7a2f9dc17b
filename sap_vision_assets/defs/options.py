"""Launchpad options of a training: a recipe by its name, and each field of TrainingConfig to override."""

import dataclasses
import types
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

import dagster as dg
from pydantic import ConfigDict, Field, ValidationError, create_model

from sap_vision_assets.errors import InputError
from sap_vision_assets.training.config import NO_WEIGHTS, ArchitectureConfig, TrainingConfig
from sap_vision_assets.training.recipes import RECIPES


def _launchpad_type(hint: Any) -> Any:
    """The type of a config field for `hint`: Literals become str, the architecture a nested config."""
    if hint is ArchitectureConfig:
        return ArchitectureOptions
    if get_origin(hint) in (Union, types.UnionType):
        kinds = [_launchpad_type(kind) for kind in get_args(hint) if kind is not type(None)]
        return kinds[0]
    return hint if hint in (int, float, str, bool) else str


class _Options(dg.Config):
    model_config = ConfigDict(extra="forbid")


def _optional_fields(config: type, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    hints = get_type_hints(config)
    return {
        field.name: (
            _launchpad_type(hints[field.name]) | None,
            Field(None, description="null: as in the recipe."),
        )
        for field in dataclasses.fields(config)
        if field.name not in without
    }


if TYPE_CHECKING:
    # Made below from the fields of TrainingConfig, which type checkers cannot follow.
    class ArchitectureOptions(dg.Config): ...

    class TrainingOptions(dg.Config):
        recipe: str | None
else:
    ArchitectureOptions = create_model(
        "ArchitectureOptions", __base__=_Options, **_optional_fields(ArchitectureConfig)
    )
    TrainingOptions = create_model(
        "TrainingOptions",
        __base__=_Options,
        recipe=(
            str | None,
            Field(
                None, description=f"One of {', '.join(RECIPES)}. null: demo, and demo_finetune for a domain."
            ),
        ),
        **_optional_fields(TrainingConfig),
    )


def training_config(options: TrainingOptions, default_recipe: str) -> tuple[str, TrainingConfig]:
    """The recipe's name, and its config with the options that are set; InputError for an unknown recipe."""
    name = options.recipe or default_recipe
    if name not in RECIPES:
        raise InputError(f"recipe {name!r} is unknown; use one of {', '.join(RECIPES)}")
    changes = {
        key: value for key, value in options.model_dump().items() if value is not None and key != "recipe"
    }
    config = RECIPES[name]()
    if "architecture" in changes:
        sizes = {key: value for key, value in changes["architecture"].items() if value is not None}
        base = config.architecture or ArchitectureConfig()
        changes["architecture"] = dataclasses.replace(base, **sizes)
    return name, dataclasses.replace(config, **changes)


def overrides(recipe: str, training: Mapping[str, Any]) -> dict[str, Any]:
    """Options that turn today's `recipe` into the config whose JSON is `training`.

    Fields that a config of today does not have are left out, and all for a recipe that is gone.
    """
    if recipe not in RECIPES:
        return {}
    today = RECIPES[recipe]().to_json()
    return {
        name: value
        for name, value in training.items()
        if name in today and value is not None and value != today[name]
    }


def check_options(options: Mapping[str, Any], default_recipe: str, *, starts_anew: bool) -> TrainingConfig:
    """The config of these options. Raises InputError for some that make no training, before any run.

    `starts_anew`: whether the model has no general one to take its sizes and weights from.
    """
    unknown = sorted(options.keys() - TrainingOptions.model_fields.keys())
    if unknown:
        known = ", ".join(sorted(TrainingOptions.model_fields))
        raise InputError(f"{unknown[0]!r} is no field of a training; known are {known}")
    try:
        made = TrainingOptions(**options)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{where}={first['input']!r}: {first['msg']}") from error
    recipe, config = training_config(made, default_recipe)
    require_start(recipe, config, starts_anew=starts_anew)
    return config


def require_start(recipe: str, config: TrainingConfig, *, starts_anew: bool) -> None:
    """Raises InputError when the recipe is one for the other kind of model."""
    if starts_anew and config.architecture is None and config.initial_weights == NO_WEIGHTS:
        raise InputError(
            f"recipe {recipe!r} goes on from a general model, and this is the general model; "
            "use a recipe that does not end in _finetune, or set initial_weights to a checkpoint's directory"
        )
    if not starts_anew and config.initial_weights != NO_WEIGHTS:
        raise InputError(
            f"initial_weights={config.initial_weights!r}: a domain's model starts from the promoted general "
            f"one; train that from these weights, and leave {NO_WEIGHTS!r} here"
        )
    if not starts_anew and config.architecture is not None:
        raise InputError(
            f"recipe {recipe!r}: a domain's model starts from the promoted general one and has its "
            "architecture; use a recipe that ends in _finetune"
        )
