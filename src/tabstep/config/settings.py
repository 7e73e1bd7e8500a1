"""The composed configuration as frozen dataclasses: one class a group, one field a key, no torch.

A field's type is its rule: ``parse`` checks the composed YAML against the annotations below, and ``json_schema`` prints
them. ``Annotated[..., Range(...)]`` bounds a number, ``Doc`` says what a key means; a ``Literal`` lists the choices; a
union of classes with a ``name`` field is chosen by that name. ``ComponentSettings`` beside a registry stands for the
classes of all that is registered there. A default that does not hang on the machine stands here too, the same as in
conf/; those of a model stand in its constructor.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from tabstep.option_types import Count, Doc, Fraction, Index, NonNegative, OpenFraction, Positive, Range, Ratio
from tabstep.registry import (
    CALLBACKS,
    CLASSIFIERS,
    LOGGERS,
    LOSSES,
    METRICS,
    MODELS,
    OPTIMIZERS,
    READERS,
    SCHEDULERS,
    ComponentSettings,
    PluginSettings,
)
from tabstep.run_files import CHECKPOINTS, MODEL

Metric = Literal[
    "train_loss",
    "val_loss",
    "val_accuracy",
    "val_f1",
    "val_auroc",
    "val_average_precision",
    "val_log_loss",
]
Monitor = Literal[Metric, "val_calibrated_log_loss"]


@dataclass(frozen=True, kw_only=True)
class SchemaSettings:
    """Columns by role; what is null is inferred from the Arrow types of the train split."""

    id: Annotated[str | None, Doc("column that identifies a row; copied to the predictions")] = None
    label: Annotated[str | list[str] | None, Doc("column to predict, or the 0/1 columns of a multilabel task")] = None
    weight: Annotated[str | None, Doc("column that says how much a row counts: numbers of 0 and above")] = None
    numeric: Annotated[list[str] | None, Doc("columns that are read as numbers")] = None
    categorical: Annotated[list[str] | None, Doc("columns that are read as categories")] = None
    drop: Annotated[list[str], Doc("columns that are left out")] = field(default_factory=list)
    parse: Annotated[dict[str, str], Doc("text that is a number, comma (1.332,3) or a date such as %d.%m.%Y")] = field(
        default_factory=dict
    )
    task: Annotated[Literal["auto", "binary", "multiclass", "multilabel"], Doc("what is predicted")] = "auto"
    classes: Annotated[list[str | int] | None, Doc("values of the label; the last of two is the positive class")] = None


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """How columns become numbers; fitted on the train split only."""

    scaling: Annotated[Literal["quantile", "robust", "standard"], Doc("how numeric columns are scaled")] = "quantile"
    max_categories: Annotated[Count, Doc("values that a column keeps; less frequent ones become one rare value")] = (
        10000
    )
    min_frequency: Annotated[Count, Doc("rows that a value needs, or it is rare")] = 1
    statistics: Annotated[bool, Doc("rates of the target by categories and combinations of them, where they help")] = (
        True
    )


@dataclass(frozen=True, kw_only=True)
class SplitSettings:
    """How val is held out of train where there is none, or how train is cut into folds."""

    group: Annotated[str | None, Doc("column whose equal values stay in one split, as customer")] = None
    time: Annotated[str | None, Doc("column by which the latest rows are held out")] = None


@dataclass(frozen=True, kw_only=True)
class ReaderSettings:
    """What reads a location: ours, by what lies there, or a function of another package that returns a table."""

    name: Literal["default"] = "default"


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the tables are and how they are cut into batches. With no location at all: the built-in table."""

    path: Annotated[str | None, Doc("directory with train/, val/ and test/, or train.parquet or .csv, … in it")] = None
    train: Annotated[str | None, Doc("parquet or CSV: a file, a directory or a glob")] = None
    val: Annotated[str | None, Doc("as train; null holds out val_share of train")] = None
    test: Annotated[str | None, Doc("as train; null leaves the test out")] = None
    reader: Annotated[ReaderSettings | PluginSettings, READERS] = field(default_factory=ReaderSettings)
    partitioning: Annotated[Literal["none", "hive"], Doc("hive reads key=value directories as columns")] = "none"
    sharded: Annotated[bool, Doc("each machine has a part of train's files; they pass them on to each other first")] = (
        False
    )
    shards: Annotated[
        Literal["file"] | Count | None,
        Doc("cuts train into so many virtual shards, or one a file: each rank reads its own alone"),
    ] = None
    val_share: Annotated[OpenFraction, Doc("share of train that is held out when there is no val")] = 0.2
    folds: Annotated[
        Annotated[int, Range(ge=2, le=1000)] | None,
        Doc("trains so many models, each row being val of one of them, and averages them"),
    ] = None
    fold: Annotated[Count | None, Doc("trains this one of the folds alone, counted from 1")] = None
    batch_size: Annotated[
        Literal["auto"] | Count,
        Doc("rows of a training batch, on all devices together; auto: by those of train"),
    ] = "auto"
    eval_batch_size: Annotated[Count, Doc("rows of a batch of val and test")] = 8192
    shuffle_window: Annotated[Count, Doc("rows that are shuffled together in a table larger than memory")] = 2_000_000
    checks: Annotated[Literal["strict", "warn", "off"], Doc("whether an error of the data checks ends the run")] = (
        "strict"
    )
    builtin_rows: Annotated[int, Range(ge=1000), Doc("rows of the built-in table")] = 40000
    drop_unlabeled: Annotated[bool, Doc("leaves rows without a label out, instead of ending with an error")] = False
    split: SplitSettings = field(default_factory=SplitSettings)
    encoder: EncoderSettings = field(default_factory=EncoderSettings)


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """``auto`` is cross-entropy, or BCE-with-logits for a multilabel task."""

    name: Literal["auto", "cross_entropy", "bce", "focal"] = "auto"
    class_weights: Annotated[
        Literal["balanced"] | list[Positive] | None, Doc("weight of each class, in their order")
    ] = None
    label_smoothing: Fraction = 0.0
    focal_gamma: Annotated[NonNegative, Doc("how strongly the focal loss discounts easy rows")] = 2.0


@dataclass(frozen=True, kw_only=True)
class MuonSettings:
    """Muon for the hidden matrices, AdamW for embeddings, output layer and vectors."""

    name: Literal["muon"] = "muon"
    lr: Annotated[Positive, Doc("highest learning rate of AdamW's part")] = 0.001
    hidden_lr: Annotated[Positive, Doc("highest learning rate of Muon's part")] = 0.005
    weight_decay: NonNegative = 0.0001
    hidden_weight_decay: Annotated[NonNegative, Doc("weight decay of Muon's part")] = 0.0001
    betas: list[Fraction] = field(default_factory=lambda: [0.9, 0.999])
    momentum: Annotated[Fraction, Doc("of Muon")] = 0.95


@dataclass(frozen=True, kw_only=True)
class AdamWSettings:
    """AdamW."""

    name: Literal["adamw"] = "adamw"
    lr: Annotated[Positive, Doc("highest learning rate of the schedule")] = 0.001
    weight_decay: NonNegative = 0.0001
    betas: list[Fraction] = field(default_factory=lambda: [0.9, 0.999])


@dataclass(frozen=True, kw_only=True)
class SGDSettings:
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"] = "sgd"
    lr: Annotated[Positive, Doc("highest learning rate of the schedule")] = 0.1
    weight_decay: NonNegative = 0.0001
    momentum: Fraction = 0.9
    nesterov: bool = True


OptimizerSettings = MuonSettings | AdamWSettings | SGDSettings


@dataclass(frozen=True, kw_only=True)
class ConstantSettings:
    """The learning rate stays as it is."""

    name: Literal["none"] = "none"


@dataclass(frozen=True, kw_only=True)
class CosineSettings:
    """Linear warm-up, then half a cosine down, over trainer.max_epochs."""

    name: Literal["cosine"] = "cosine"
    warmup: Annotated[Fraction, Doc("share of the steps that warm up")] = 0.05
    final_ratio: Annotated[float, Range(ge=0, le=1), Doc("last learning rate, as a share of lr")] = 0.0


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Multiplies the learning rate by gamma every few epochs."""

    name: Literal["step"] = "step"
    step_epochs: Annotated[Count, Doc("epochs between two drops")] = 10
    gamma: Ratio = 0.1


@dataclass(frozen=True, kw_only=True)
class OneCycleSettings:
    """One cycle over trainer.max_epochs: up to lr, then down below the start."""

    name: Literal["one_cycle"] = "one_cycle"
    warmup: Annotated[OpenFraction, Doc("share of the steps that go up")] = 0.3
    start_ratio: Annotated[Ratio, Doc("first learning rate, as a share of lr")] = 0.04
    final_ratio: Annotated[Ratio, Doc("last learning rate, as a share of lr")] = 0.0001


@dataclass(frozen=True, kw_only=True)
class PlateauSettings:
    """Lowers the learning rate when the monitor stops falling."""

    name: Literal["plateau"] = "plateau"
    monitor: Literal["train_loss", "val_loss"] = "val_loss"
    factor: Annotated[OpenFraction, Doc("what the learning rate is multiplied by")] = 0.3
    patience: Annotated[Index, Doc("epochs without progress before that")] = 2
    min_lr: NonNegative = 1e-06


SchedulerSettings = ConstantSettings | CosineSettings | StepSettings | OneCycleSettings | PlateauSettings


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long and on what the training runs."""

    max_epochs: Annotated[Count | None, Doc("most epochs; null trains until nothing improves")] = None
    max_time: Annotated[Positive | None, Doc("hours after which the run saves and stops")] = None
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[Literal["auto"] | Count, Doc("processes on this machine; auto is one a GPU")] = 1
    num_nodes: Annotated[Count, Doc("machines")] = 1
    precision: Literal["16-mixed", "bf16-mixed", "32-true"] = "16-mixed"
    accumulate_grad_batches: Annotated[Count, Doc("batches of one optimizer step")] = 1
    gradient_clip_val: Annotated[Positive | None, Doc("gradient norm above which gradients are clipped")] = 1.0
    log_interval: Annotated[Index, Doc("batches between two batch lines; 0 prints none")] = 100
    deterministic: Annotated[bool, Doc("deterministic algorithms on a GPU")] = False
    limit_train_batches: Annotated[Count | None, Doc("batches of train that are used, for debugging")] = None
    limit_val_batches: Annotated[Count | None, Doc("batches of val that are used")] = None
    limit_test_batches: Annotated[Count | None, Doc("batches of test that are used")] = None
    fast_dev_run: Annotated[bool, Doc("one epoch of one batch of each split through every stage, limits or not")] = (
        False
    )
    detect_anomaly: Annotated[bool, Doc("torch's anomaly detection: slow, names the operation behind a NaN")] = False


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings:
    """Ends the training when the monitor no longer improves."""

    monitor: Monitor | str = "val_calibrated_log_loss"
    patience: Annotated[Count | None, Doc("epochs without progress; null never stops early")] = 10
    patience_steps: Annotated[Index, Doc("optimizer steps that those epochs must have taken, or there are more")] = 300
    min_delta: Annotated[NonNegative, Doc("smallest change that is progress")] = 0.0


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """Which epoch is exported, and when the resumable state is saved, besides the end of each epoch."""

    monitor: Annotated[Monitor | str, Doc("score by which the exported epoch is the best")] = "val_calibrated_log_loss"
    every_n_steps: Count | None = None
    every_seconds: Positive | None = 300
    keep: Annotated[Count, Doc("newest checkpoints that are kept")] = 2


@dataclass(frozen=True, kw_only=True)
class CallbackSettings:
    """What happens beside the training step."""

    early_stopping: EarlyStoppingSettings = field(default_factory=EarlyStoppingSettings)
    checkpoint: CheckpointSettings = field(default_factory=CheckpointSettings)
    ema_decay: Annotated[OpenFraction | None, Doc("decay of a moving average of the weights; null keeps none")] = 0.99
    fail_above_grad_norm: Annotated[Positive | None, Doc("gradient norm above which the run ends with an error")] = None
    progress: Annotated[Literal["auto", "bar", "lines", "none"], Doc("auto is a bar on a terminal, lines in a log")] = (
        "auto"
    )
    extra: Annotated[
        list[Annotated[PluginSettings, CALLBACKS]], Doc("Lightning callbacks of other packages: name and options")
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class MlflowSettings:
    """A run of MLflow: parameters, scores by epoch, the page and the model as artifacts."""

    enabled: bool = False
    tracking_uri: Annotated[
        str | None,
        Doc("http(s)://, sqlite:///, a directory, SageMaker's ARN; null is MLFLOW_TRACKING_URI or MLflow's own"),
    ] = None
    experiment: Annotated[str, Doc("name of the experiment; it is made where there is none")] = "tabstep"
    run_name: Annotated[str | None, Doc("name of the run; null is that of paths.output_dir")] = None
    parent: Annotated[str | None, Doc("id of the run that this one is a child of; a sweep names its own")] = None
    tags: Annotated[dict[str, str], Doc("tags of the run")] = field(default_factory=dict)
    model: Annotated[bool, Doc("sends the model directory as an artifact")] = True


@dataclass(frozen=True, kw_only=True)
class WandbSettings:
    """A run of Weights & Biases, with the same."""

    enabled: bool = False
    project: str = "tabstep"
    entity: Annotated[str | None, Doc("team or user; null is that of the account")] = None
    run_name: Annotated[str | None, Doc("name of the run; null is that of paths.output_dir")] = None
    group: Annotated[str | None, Doc("group of the run; null is the sweep of a trial")] = None
    mode: Annotated[
        Literal["online", "offline"] | None, Doc("offline writes files for wandb sync; null is WANDB_MODE or online")
    ] = None
    model: Annotated[bool, Doc("sends the model directory as an artifact")] = True


@dataclass(frozen=True, kw_only=True)
class LoggerSettings:
    """Where the metrics of each epoch are written."""

    csv: bool = True
    tensorboard: bool = False
    mlflow: MlflowSettings = field(default_factory=MlflowSettings)
    wandb: WandbSettings = field(default_factory=WandbSettings)
    extra: Annotated[
        list[Annotated[PluginSettings, LOGGERS]], Doc("Lightning loggers of other packages: name and options")
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings:
    """What takes a training step: ours, or a subclass of it."""

    name: Literal["default"] = "default"


@dataclass(frozen=True, kw_only=True)
class MetricSettings:
    """What is measured besides loss, accuracy, F1, AUROC, average precision and log-loss."""

    extra: Annotated[
        list[Annotated[PluginSettings, METRICS]], Doc("metrics of torchmetrics or other packages: name and options")
    ] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The page that a run ends with, and what it may cost."""

    page: Annotated[bool, Doc("writes report.html at the end of the run")] = True
    trials: Annotated[
        bool, Doc("writes it for each trial of a sweep, or fold, too; tabstep report makes one later")
    ] = False
    rows: Annotated[Count, Doc("rows of val that importance and dependence are computed on, at most")] = 1000
    seconds: Annotated[Positive, Doc("time for the page; what is left by then is left out, and it says so")] = 60


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """Directories that a run writes to."""

    output_dir: Annotated[str, Doc("report, model, predictions, checkpoints and logs of a run")]
    checkpoint_dir: Annotated[str | None, Doc("checkpoints of a run; null is checkpoints/ in output_dir")] = None
    model_dir: Annotated[str | None, Doc("model of a run; null is model/ in output_dir")] = None
    cache_dir: Annotated[str, Doc("encoded tables, shared by runs")]

    @property
    def checkpoints(self) -> Path:
        """Directory of the checkpoints."""
        return Path(self.checkpoint_dir or f"{self.output_dir}/{CHECKPOINTS}")

    @property
    def model(self) -> Path:
        """Directory of the model."""
        return Path(self.model_dir or f"{self.output_dir}/{MODEL}")


@dataclass(frozen=True, kw_only=True)
class LocalSettings:
    """Runs here."""

    name: Literal["local"] = "local"


@dataclass(frozen=True, kw_only=True)
class RemoteSettings:
    """Runs as a SageMaker training job, or does all but that."""

    name: Literal["sagemaker", "dry_run", "rehearsal"] = "sagemaker"
    role: Annotated[str | None, Doc("ARN of the role that the job takes on")]
    region: Annotated[str | None, Doc("AWS region; null asks the AWS configuration of this machine")]
    bucket: Annotated[str | None, Doc("bucket for what is sent; null is that of output_path, else SageMaker's own")]
    prefix: Annotated[str, Doc("first part of every generated path in the bucket")] = "tabstep"
    job_name: Annotated[str | None, Doc("name of the job; null is made of model and time")] = None
    input_path: Annotated[str | None, Doc("s3:// directory with train/, val/ and test/; local data is sent to it")] = (
        None
    )
    output_path: Annotated[str | None, Doc("s3:// directory of the artifact; null is made of bucket and date")] = None
    checkpoint_path: Annotated[str | None, Doc("s3:// directory; null is made of bucket and job, none keeps none")] = (
        None
    )
    channels: Annotated[list[Literal["train", "val", "test"]], Doc("splits that input_path has")] = field(
        default_factory=lambda: ["train", "val", "test"]
    )
    input_mode: Annotated[Literal["File", "FastFile"], Doc("FastFile streams the tables instead of copying them")] = (
        "File"
    )
    sharded: Annotated[
        bool, Doc("each instance fetches its own part of train's files, and gets the others' from them")
    ] = False
    instance_type: Annotated[str, Doc("such as ml.m5.xlarge (CPU) or ml.g5.xlarge (one GPU)")] = "ml.g5.12xlarge"
    instance_count: Annotated[Count, Doc("instances; several need trainer.devices=auto")] = 1
    volume_size: Annotated[Count, Doc("disk in GB; instances with a disk of their own ignore it")] = 30
    max_run: Annotated[Count, Doc("seconds after which the service stops the job")] = 86400
    spot: Annotated[bool, Doc("cheaper capacity that may be interrupted; the job goes on from its checkpoint")] = False
    max_wait: Annotated[Count | None, Doc("spot: seconds of waiting and running; null is twice max_run")] = None
    keep_alive: Annotated[Index | None, Doc("warm pool: seconds that the instances stay for the next job")] = None
    torch: Annotated[str, Doc("torch version of the image, as 2.13")] = "2.13"
    image_uri: Annotated[str | None, Doc("an image of your own")] = None
    framework_version: Annotated[str | None, Doc("the SDK's own image of this PyTorch version instead")] = None
    py_version: Annotated[str | None, Doc("its Python, as py312")] = None
    source_dir: Annotated[str | None, Doc("directory with train.py, conf/ and src/; null is this checkout")] = None
    entry_point: Annotated[str, Doc("the script in it")] = "train.py"
    list_bundle: Annotated[bool, Doc("lists the files that are sent")] = False
    environment: Annotated[dict[str, str], Doc("environment variables of the job")] = field(default_factory=dict)
    tags: Annotated[dict[str, str], Doc("tags of the job")] = field(default_factory=dict)
    subnets: Annotated[list[str], Doc("VPC subnets")] = field(default_factory=list)
    security_group_ids: Annotated[list[str], Doc("VPC security groups")] = field(default_factory=list)
    volume_kms_key: Annotated[str | None, Doc("KMS key of the instances' disks")] = None
    output_kms_key: Annotated[str | None, Doc("KMS key of the artifact")] = None
    network_isolation: Annotated[bool, Doc("no network in the job: needs an image with all packages")] = False
    encrypt_inter_container: Annotated[bool, Doc("encrypts what instances tell each other")] = False
    profiler: Annotated[bool, Doc("system metrics every second to the output path")] = True
    debugger: Annotated[bool, Doc("the debugger's hook")] = False
    request: Annotated[dict[str, Any], Doc("further fields of CreateTrainingJob, as the service calls them")] = field(
        default_factory=dict
    )
    ca_repository_arn: Annotated[str | None, Doc("CodeArtifact repository that the job installs from")]
    max_usd: Annotated[Positive | None, Doc("refuses a job that could cost more")] = None
    prices: Annotated[
        str | None, Doc("YAML file of prices by region and instance type; null is the built-in table")
    ] = None
    wait: Annotated[bool, Doc("follows the job until it ends")] = True
    download: Annotated[bool, Doc("then fetches the artifact into paths.output_dir")] = True
    attach: Annotated[str | None, Doc("name of a job that runs already: follows it, sends nothing")] = None
    tuner: Annotated[bool, Doc("-m: one tuning job of the service does the whole sweep")] = False
    interrupt_after: Annotated[Count | None, Doc("rehearsal: epochs after which the capacity is taken away, once")] = (
        None
    )


LaunchSettings = LocalSettings | RemoteSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run."""

    schema: SchemaSettings = field(default_factory=SchemaSettings)
    data: DataSettings = field(default_factory=DataSettings)
    model: Annotated[ComponentSettings, MODELS] = field(default_factory=lambda: MODELS.defaults("mlp"))
    loss: Annotated[LossSettings | PluginSettings, LOSSES] = field(default_factory=LossSettings)
    optimizer: Annotated[OptimizerSettings | PluginSettings, OPTIMIZERS] = field(default_factory=MuonSettings)
    scheduler: Annotated[SchedulerSettings | PluginSettings, SCHEDULERS] = field(default_factory=ConstantSettings)
    classifier: Annotated[ClassifierSettings | PluginSettings, CLASSIFIERS] = field(default_factory=ClassifierSettings)
    metrics: MetricSettings = field(default_factory=MetricSettings)
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    callbacks: CallbackSettings = field(default_factory=CallbackSettings)
    logger: LoggerSettings = field(default_factory=LoggerSettings)
    report: ReportSettings = field(default_factory=ReportSettings)
    paths: PathSettings
    launch: LaunchSettings = field(default_factory=LocalSettings)
    seed: Annotated[int, Range(ge=0, le=2**32 - 1), Doc("source of all randomness")] = 42
    resume: Annotated[str, Doc("auto, must, never or the path of a checkpoint")] = "auto"
    objective: Annotated[Metric | str, Doc("what a sweep optimizes, of the exported epoch")] = "val_auroc"
    baselines: Annotated[
        list[Literal["lightgbm", "xgboost", "catboost"]] | None,
        Doc("trees to score beside majority and logistic regression; null scores none of them"),
    ] = field(default_factory=list)
    decision: Annotated[
        str | None, Doc("what thresholds are chosen for on val: f1, precision>=0.9, cost={fp: 1, fn: 20}; null is 0.5")
    ] = None
    export: Annotated[
        Literal["onnx"] | None, Doc("a second form of the model: onnx adds model.onnx to its directory; null adds none")
    ] = None
    tags: list[str] = field(default_factory=list)

    @property
    def remote(self) -> RemoteSettings:
        """What a run that is launched elsewhere says of its job."""
        assert isinstance(self.launch, RemoteSettings)
        return self.launch
