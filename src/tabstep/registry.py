"""Components by name: where each one lives and which options it declares, both found without importing it.

A component is a class or a function. Its options are the arguments that a run does not fill in itself, and the
annotation of an argument is the rule of its key: ``width: Annotated[Count, Doc("units of a hidden layer")]`` of a model
is ``model.width``. ``component_source`` reads them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, make_dataclass
from importlib import metadata
from typing import Any, Final, Literal

from tabstep.component_source import Option, about, declared_options, own_components, public_classes, snake_case
from tabstep.errors import UserError, nearest, raise_problems


@dataclass(frozen=True, kw_only=True)
class ComponentSettings:
    """The name of a component; what is derived from this class has its options."""

    name: str


@dataclass(frozen=True, kw_only=True)
class PluginSettings(ComponentSettings):
    """A component of another package: the name of its entry point, or ``package.module:Name``; its own options.

    They stand beside the name, or below ``options``: there they may be mappings, or have the name ``name``.
    """

    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Registry:
    """The components of one kind.

    Attributes:
        key: of the configuration, which has the name and the options of one: ``model``.
        package: where ours lie, a module each, with a class that has the module's name but for case and underscores;
            there may be none. The entry points of the group with that name are those of other packages.
        given: the first arguments of each, which a run fills in.
        kind: ``module:Name`` of the class that each is a subclass of, or that a function returns; None is not checked.
        library: a module whose public classes are known by their names in snake case.
        filled: arguments that a run fills in by name, where a component has them and the options do not.
        passed: options that the ``**`` of a constructor may take; None is any.
        converted: options that a run turns into an argument, the first of some that a component has.
    """

    key: str
    package: str
    given: tuple[str, ...]
    kind: str | None = None
    library: str | None = None
    filled: tuple[str, ...] = ()
    passed: tuple[str, ...] | None = None
    converted: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def noun(self) -> str:
        """What one is called in a sentence.

        >>> MODELS.noun, CALLBACKS.noun
        ('model', 'callback')
        """
        return self.key if "." not in self.key else self.package.rpartition(".")[2].removesuffix("s")

    def ours(self) -> Mapping[str, str]:
        """Return ``module:Name`` of each of our components by its name.

        >>> MODELS.ours()["resnet"]
        'tabstep.models.resnet:ResNet'
        """
        return own_components(self.package)

    def plugins(self) -> Mapping[str, metadata.EntryPoint]:
        """Return what installed packages register, but for names of ours: these cannot be taken over."""
        points = metadata.entry_points(group=self.package)
        return {point.name: point for point in points if point.name not in self.ours()}

    def find(self, name: str) -> str | None:
        """Return ``module:Name`` of a component, or None where there is no such name."""
        if name in self.ours():
            return self.ours()[name]
        if ":" in name:
            return name
        return self.plugins()[name].value if name in self.plugins() else self.of_library().get(name)

    def of_library(self) -> Mapping[str, str]:
        """Return ``module:Name`` of each public class of ``library`` by its name.

        >>> METRICS.of_library()["cohen_kappa"]
        'torchmetrics.classification:CohenKappa'
        """
        return {} if self.library is None else public_classes(self.library)

    def load(self, name: str) -> Any:
        """Import a component.

        Raises:
            UserError: nothing is called so, or a module of another package has no such name.
        """
        target = self.find(name)
        if target is None:
            known = nearest(name, [*self.ours(), *self.plugins(), *self.of_library()])
            raise UserError(f"{self.key}.name: no {self.noun} is called {name!r}; {known}")
        try:
            return _import(target)
        except ModuleNotFoundError as error:
            raise UserError(f"{self.key}.name: {target}: no module is called {error.name!r}: install it") from error
        except AttributeError as error:
            raise UserError(f"{self.key}.name: {target}: {error}") from error

    def check(self, name: str, options: Iterable[str], path: str | None = None) -> None:
        """Import a component and refuse options that its signature does not have, or lacks; nothing is built yet.

        Args:
            path: of the configuration, where there may be several; None is ``key``.

        Raises:
            ProblemsError: one line each. UserError: there is no such component, or it is of another kind.
        """
        place, found = path or self.key, self.load(name)
        if self.kind is not None and isinstance(found, type) and not issubclass(found, _import(self.kind)):
            raise UserError(f"{place}.name: {name!r} is not a {self.kind.replace(':', '.')} class")
        own = self.arguments(found)
        allowed = {*own, *(key for key, targets in self.converted.items() if any(each in own for each in targets))}
        if any(each.kind == each.VAR_KEYWORD for each in own.values()):
            if self.passed is None:
                return
            allowed |= set(self.passed)
        fixed = {key: each for key, each in own.items() if each.kind != each.VAR_KEYWORD}
        # the name of the ``**`` itself is no option
        allowed -= own.keys() - fixed.keys()
        given = list(options)
        raise_problems(
            [
                f"{place}.{key}: {name} has no such option; {nearest(key, allowed)}"
                for key in given
                if key not in allowed
            ]
            + [
                f"{place}.{key}: is missing: {name} needs it"
                for key, each in fixed.items()
                if each.default is each.empty and key not in (*given, *self.filled)
            ]
        )

    def arguments(self, found: Any) -> dict[str, inspect.Parameter]:
        """Return what a component takes besides what a run gives it by position."""
        declared = [each for each in inspect.signature(found).parameters.values() if each.kind != each.VAR_POSITIONAL]
        # a subclass may name some of what it is given and pass the others on: these are left out by name
        behind = [each for each in declared if each.name not in self.given] if self.passed == () else declared
        start = 0 if self.passed == () else len(self.given)
        return {each.name: each for each in behind[start:]}

    def make(self, part: PluginSettings, *given: Any, path: str | None = None) -> Any:
        """Build a component of another package.

        Raises:
            UserError: it is not there or of another kind, or its constructor does not like its options.
        """
        place, found = path or self.key, self.load(part.name)
        try:
            made = found(*given, **part.options)
        except SystemExit as error:
            raise UserError(f"{place}: {part.name}: ends the process itself (SystemExit: {error.code})") from error
        except Exception as error:  # somebody else's constructor has its own
            raise UserError(f"{place}: {part.name}: {' '.join(str(error).split())}") from error
        if self.kind is not None and not isinstance(made, _import(self.kind)):
            raise UserError(f"{place}.name: {part.name!r} makes no {self.kind.replace(':', '.')}")
        return made

    def options(self, name: str) -> Mapping[str, Option] | None:
        """Return the options that a component declares, or None where its source does not tell."""
        target = self.find(name)
        return None if target is None else declared_options(target, len(self.given))

    def distribution(self, name: str) -> metadata.Distribution | None:
        """Return the installed distribution that a component comes from: None for ours, and for a loose module."""
        if name in self.ours():
            return None
        if name in self.plugins():
            return self.plugins()[name].dist
        target = self.of_library().get(name, name)
        owners = metadata.packages_distributions().get(target.partition(".")[0].partition(":")[0])
        return metadata.distribution(owners[0]) if owners else None

    def settings(self) -> tuple[type[ComponentSettings], ...]:
        """Return a class of settings for each of our components: its name, then a field an option."""
        return tuple(_settings_class(name, target, len(self.given)) for name, target in self.ours().items())

    def defaults(self, name: str) -> ComponentSettings:
        """Return the settings of one of our components as its constructor has them.

        >>> MODELS.defaults("mlp").name
        'mlp'
        """
        return _settings_class(name, self.ours()[name], len(self.given))(name=name)


MODELS: Final = Registry(key="model", package="tabstep.models", given=("num_numeric", "cardinalities", "num_outputs"))
CALLBACKS: Final = Registry(
    key="callbacks.extra", package="tabstep.callbacks", given=(), kind="lightning.pytorch:Callback"
)
CLASSIFIERS: Final = Registry(
    key="classifier",
    package="tabstep.classifiers",
    given=("model", "loss", "scores", "target", "options", "make_optimizer", "make_schedule"),
    kind="tabstep.training.classifier:Classifier",
    passed=(),
)
METRICS: Final = Registry(
    key="metrics.extra",
    package="tabstep.metrics",
    given=(),
    kind="torchmetrics:Metric",
    library="torchmetrics.classification",
    filled=("task", "num_classes", "num_labels"),
    passed=("compute_on_cpu", "compute_with_cache"),
)
LOSSES: Final = Registry(
    key="loss",
    package="tabstep.losses",
    given=(),
    kind="torch.nn:Module",
    converted={"class_weights": ("weight", "pos_weight")},
)
OPTIMIZERS: Final = Registry(
    key="optimizer", package="tabstep.optimizers", given=("params",), kind="torch.optim:Optimizer"
)
SCHEDULERS: Final = Registry(
    key="scheduler", package="tabstep.schedulers", given=("optimizer",), kind="torch.optim.lr_scheduler:LRScheduler"
)
LOGGERS: Final = Registry(
    key="logger.extra", package="tabstep.loggers", given=(), kind="lightning.pytorch.loggers:Logger"
)
ENCODERS: Final = Registry(key="data.encoder.columns", package="tabstep.encoders", given=())
LAUNCHERS: Final = Registry(key="launch", package="tabstep.launchers", given=("config", "overrides"))
READERS: Final = Registry(key="data.reader", package="tabstep.readers", given=("location",))


def _import(target: str) -> Any:
    module, _, attribute = target.partition(":")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


def metric_key(name: str) -> str:
    """Return what the scores of a metric are called: its name, or that of its class.

    >>> metric_key("recall"), metric_key("torchmetrics.classification:MulticlassCohenKappa")
    ('recall', 'multiclass_cohen_kappa')
    """
    return snake_case(name.rpartition(":")[2].rpartition(".")[2]) if ":" in name else name


@functools.cache
def _settings_class(name: str, target: str, num_given: int) -> type[ComponentSettings]:
    module, _, attribute = target.partition(":")
    options = declared_options(target, num_given)
    assert options is not None, f"{target}: its options cannot be read from its source"
    unknown = [key for key, option in options.items() if option.annotation is None]
    assert not unknown, f"{target}: no type of an option: {unknown}"
    fields = [(key, option.annotation, field(default=option.default)) for key, option in options.items()]
    made = make_dataclass(
        f"{attribute}Settings",
        [("name", Literal.__getitem__(name), field(default=name)), *fields],
        bases=(ComponentSettings,),
        frozen=True,
        kw_only=True,
    )
    made.__doc__ = about(module)
    return made
