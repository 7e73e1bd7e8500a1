"""The composed configuration as frozen dataclasses: one class a group, one field a key, no torch.

A field's type is its rule: ``parse`` checks the composed YAML against the annotations below, and ``json_schema`` prints
them. ``Annotated[..., Range(...)]`` bounds a number, ``Doc`` says what a key means; a ``Literal`` lists the choices; a
union of classes with a ``name`` field is chosen by that name. ``ComponentSettings`` beside a registry stands for the
classes of all that is registered there. Defaults stand in conf/ alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from tabstep.option_types import Count, Doc, Fraction, Index, NonNegative, OpenFraction, Positive, Range, Ratio
from tabstep.registry import MODELS, ComponentSettings
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


@dataclass(frozen=True, kw_only=True)
class SchemaSettings:
    """Columns by role; what is null is inferred from the Arrow types of the train split."""

    id: Annotated[str | None, Doc("column that identifies a row; copied to the predictions")]
    label: Annotated[str | list[str] | None, Doc("column to predict, or the 0/1 columns of a multilabel task")]
    numeric: Annotated[list[str] | None, Doc("columns that are read as numbers")]
    categorical: Annotated[list[str] | None, Doc("columns that are read as categories")]
    drop: Annotated[list[str], Doc("columns that are left out")]
    task: Annotated[Literal["auto", "binary", "multiclass", "multilabel"], Doc("what is predicted")]
    classes: Annotated[list[str | int] | None, Doc("values of the label; the last of two is the positive class")]


@dataclass(frozen=True, kw_only=True)
class EncoderSettings:
    """How columns become numbers; fitted on the train split only."""

    scaling: Annotated[Literal["quantile", "robust", "standard"], Doc("how numeric columns are scaled")]
    max_categories: Annotated[Count, Doc("values that a column keeps; less frequent ones become one rare value")]
    min_frequency: Annotated[Count, Doc("rows that a value needs, or it is rare")]
    statistics: Annotated[bool, Doc("rates of the target by categories and combinations of them, where they help")]


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """Where the tables are and how they are cut into batches. With no location at all: the built-in table."""

    path: Annotated[str | None, Doc("directory with train/, val/ and test/, or train.parquet, … in it")]
    train: Annotated[str | None, Doc("parquet file, directory of parquet files or glob")]
    val: Annotated[str | None, Doc("as train; null holds out val_share of train")]
    test: Annotated[str | None, Doc("as train; null leaves the test out")]
    partitioning: Annotated[Literal["none", "hive"], Doc("hive reads key=value directories as columns")]
    sharded: Annotated[bool, Doc("each machine has a part of train's files; they pass them on to each other first")]
    val_share: Annotated[OpenFraction, Doc("share of train that is held out when there is no val")]
    batch_size: Annotated[
        Literal["auto"] | Count,
        Doc("rows of a training batch, on all devices together; auto: by those of train"),
    ]
    eval_batch_size: Annotated[Count, Doc("rows of a batch of val and test")]
    shuffle_window: Annotated[Count, Doc("rows that are shuffled together in a table larger than memory")]
    checks: Annotated[Literal["strict", "warn", "off"], Doc("whether an error of the data checks ends the run")]
    builtin_rows: Annotated[int, Range(ge=1000), Doc("rows of the built-in table")]
    encoder: EncoderSettings


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """``auto`` is cross-entropy, or BCE-with-logits for a multilabel task."""

    name: Literal["auto", "cross_entropy", "bce", "focal"]
    class_weights: Annotated[Literal["balanced"] | list[Positive] | None, Doc("weight of each class, in their order")]
    label_smoothing: Fraction
    focal_gamma: Annotated[NonNegative, Doc("how strongly the focal loss discounts easy rows")]


@dataclass(frozen=True, kw_only=True)
class MuonSettings:
    """Muon for the hidden matrices, AdamW for embeddings, output layer and vectors."""

    name: Literal["muon"]
    lr: Annotated[Positive, Doc("highest learning rate of AdamW's part")]
    hidden_lr: Annotated[Positive, Doc("highest learning rate of Muon's part")]
    weight_decay: NonNegative
    hidden_weight_decay: Annotated[NonNegative, Doc("weight decay of Muon's part")]
    betas: list[Fraction]
    momentum: Annotated[Fraction, Doc("of Muon")]


@dataclass(frozen=True, kw_only=True)
class AdamWSettings:
    """AdamW."""

    name: Literal["adamw"]
    lr: Annotated[Positive, Doc("highest learning rate of the schedule")]
    weight_decay: NonNegative
    betas: list[Fraction]


@dataclass(frozen=True, kw_only=True)
class SGDSettings:
    """Stochastic gradient descent with momentum."""

    name: Literal["sgd"]
    lr: Annotated[Positive, Doc("highest learning rate of the schedule")]
    weight_decay: NonNegative
    momentum: Fraction
    nesterov: bool


OptimizerSettings = MuonSettings | AdamWSettings | SGDSettings


@dataclass(frozen=True, kw_only=True)
class ConstantSettings:
    """The learning rate stays as it is."""

    name: Literal["none"]


@dataclass(frozen=True, kw_only=True)
class CosineSettings:
    """Linear warm-up, then half a cosine down, over trainer.max_epochs."""

    name: Literal["cosine"]
    warmup: Annotated[Fraction, Doc("share of the steps that warm up")]
    final_ratio: Annotated[float, Range(ge=0, le=1), Doc("last learning rate, as a share of lr")]


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """Multiplies the learning rate by gamma every few epochs."""

    name: Literal["step"]
    step_epochs: Annotated[Count, Doc("epochs between two drops")]
    gamma: Ratio


@dataclass(frozen=True, kw_only=True)
class OneCycleSettings:
    """One cycle over trainer.max_epochs: up to lr, then down below the start."""

    name: Literal["one_cycle"]
    warmup: Annotated[OpenFraction, Doc("share of the steps that go up")]
    start_ratio: Annotated[Ratio, Doc("first learning rate, as a share of lr")]
    final_ratio: Annotated[Ratio, Doc("last learning rate, as a share of lr")]


@dataclass(frozen=True, kw_only=True)
class PlateauSettings:
    """Lowers the learning rate when the monitor stops falling."""

    name: Literal["plateau"]
    monitor: Literal["train_loss", "val_loss"]
    factor: Annotated[OpenFraction, Doc("what the learning rate is multiplied by")]
    patience: Annotated[Index, Doc("epochs without progress before that")]
    min_lr: NonNegative


SchedulerSettings = ConstantSettings | CosineSettings | StepSettings | OneCycleSettings | PlateauSettings


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """How long and on what the training runs."""

    max_epochs: Annotated[Count | None, Doc("most epochs; null trains until nothing improves")]
    max_time: Annotated[Positive | None, Doc("hours after which the run saves and stops")]
    accelerator: Literal["auto", "cpu", "gpu"]
    devices: Annotated[Literal["auto"] | Count, Doc("processes on this machine; auto is one a GPU")]
    num_nodes: Annotated[Count, Doc("machines")]
    precision: Literal["16-mixed", "bf16-mixed", "32-true"]
    accumulate_grad_batches: Annotated[Count, Doc("batches of one optimizer step")]
    gradient_clip_val: Annotated[Positive | None, Doc("gradient norm above which gradients are clipped")]
    log_interval: Annotated[Index, Doc("batches between two batch lines; 0 prints none")]
    deterministic: Annotated[bool, Doc("deterministic algorithms on a GPU")]
    limit_train_batches: Annotated[Count | None, Doc("batches of train that are used, for debugging")]
    limit_val_batches: Annotated[Count | None, Doc("batches of val that are used")]
    limit_test_batches: Annotated[Count | None, Doc("batches of test that are used")]
    fast_dev_run: Annotated[bool, Doc("one epoch of one batch of each split through every stage, limits or not")]
    detect_anomaly: Annotated[bool, Doc("torch's anomaly detection: slow, names the operation behind a NaN")]


@dataclass(frozen=True, kw_only=True)
class EarlyStoppingSettings:
    """Ends the training when the monitor no longer improves."""

    monitor: Metric
    patience: Annotated[Count | None, Doc("epochs without progress; null never stops early")]
    patience_steps: Annotated[Index, Doc("optimizer steps that those epochs must have taken, or there are more")]
    min_delta: Annotated[NonNegative, Doc("smallest change that is progress")]


@dataclass(frozen=True, kw_only=True)
class CheckpointSettings:
    """When the resumable state is saved, besides the end of each epoch."""

    every_n_steps: Count | None
    every_seconds: Positive | None
    keep: Annotated[Count, Doc("newest checkpoints that are kept")]


@dataclass(frozen=True, kw_only=True)
class CallbackSettings:
    """What happens beside the training step."""

    early_stopping: EarlyStoppingSettings
    checkpoint: CheckpointSettings
    ema_decay: Annotated[OpenFraction | None, Doc("decay of a moving average of the weights; null keeps none")]
    fail_above_grad_norm: Annotated[Positive | None, Doc("gradient norm above which the run ends with an error")]
    progress: Annotated[Literal["auto", "bar", "lines"], Doc("auto is a bar on a terminal and lines in a log")]


@dataclass(frozen=True, kw_only=True)
class LoggerSettings:
    """Where the metrics of each epoch are written."""

    csv: bool
    tensorboard: bool


@dataclass(frozen=True, kw_only=True)
class ReportSettings:
    """The page that a run ends with, and what it may cost."""

    page: Annotated[bool, Doc("writes report.html at the end of the run")]
    rows: Annotated[Count, Doc("rows of val that importance, dependence and slices are computed on, at most")]
    seconds: Annotated[Positive, Doc("time for the page; what is left by then is left out, and it says so")]


@dataclass(frozen=True, kw_only=True)
class PathSettings:
    """Directories that a run writes to."""

    output_dir: Annotated[str, Doc("report, model, predictions, checkpoints and logs of a run")]
    checkpoint_dir: Annotated[str | None, Doc("checkpoints of a run; null is checkpoints/ in output_dir")]
    model_dir: Annotated[str | None, Doc("model of a run; null is model/ in output_dir")]
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

    name: Literal["local"]


@dataclass(frozen=True, kw_only=True)
class RemoteSettings:
    """Runs as a SageMaker training job, or does all but that."""

    name: Literal["sagemaker", "dry_run", "rehearsal"]
    role: Annotated[str | None, Doc("ARN of the role that the job takes on")]
    region: Annotated[str | None, Doc("AWS region; null asks the AWS configuration of this machine")]
    bucket: Annotated[str | None, Doc("bucket for what is sent; null is that of output_path, else SageMaker's own")]
    prefix: Annotated[str, Doc("first part of every generated path in the bucket")]
    job_name: Annotated[str | None, Doc("name of the job; null is made of model and time")]
    input_path: Annotated[str | None, Doc("s3:// directory with train/, val/ and test/; local data is sent to it")]
    output_path: Annotated[str | None, Doc("s3:// directory of the artifact; null is made of bucket and date")]
    checkpoint_path: Annotated[str | None, Doc("s3:// directory; null is made of bucket and job, none keeps none")]
    channels: Annotated[list[Literal["train", "val", "test"]], Doc("splits that input_path has")]
    input_mode: Annotated[Literal["File", "FastFile"], Doc("FastFile streams the tables instead of copying them")]
    sharded: Annotated[bool, Doc("each instance fetches its own part of train's files, and gets the others' from them")]
    instance_type: Annotated[str, Doc("such as ml.m5.xlarge (CPU) or ml.g5.xlarge (one GPU)")]
    instance_count: Annotated[Count, Doc("instances; several need trainer.devices=auto")]
    volume_size: Annotated[Count, Doc("disk in GB; instances with a disk of their own ignore it")]
    max_run: Annotated[Count, Doc("seconds after which the service stops the job")]
    spot: Annotated[bool, Doc("cheaper capacity that may be interrupted; the job goes on from its checkpoint")]
    max_wait: Annotated[Count | None, Doc("spot: seconds of waiting and running; null is twice max_run")]
    keep_alive: Annotated[Index | None, Doc("warm pool: seconds that the instances stay for the next job")]
    torch: Annotated[str, Doc("torch version of the image, as 2.13")]
    image_uri: Annotated[str | None, Doc("an image of your own")]
    framework_version: Annotated[str | None, Doc("the SDK's own image of this PyTorch version instead")]
    py_version: Annotated[str | None, Doc("its Python, as py312")]
    source_dir: Annotated[str | None, Doc("directory with train.py, conf/ and src/; null is this checkout")]
    entry_point: Annotated[str, Doc("the script in it")]
    list_bundle: Annotated[bool, Doc("lists the files that are sent")]
    environment: Annotated[dict[str, str], Doc("environment variables of the job")]
    tags: Annotated[dict[str, str], Doc("tags of the job")]
    subnets: Annotated[list[str], Doc("VPC subnets")]
    security_group_ids: Annotated[list[str], Doc("VPC security groups")]
    volume_kms_key: Annotated[str | None, Doc("KMS key of the instances' disks")]
    output_kms_key: Annotated[str | None, Doc("KMS key of the artifact")]
    network_isolation: Annotated[bool, Doc("no network in the job: needs an image with all packages")]
    encrypt_inter_container: Annotated[bool, Doc("encrypts what instances tell each other")]
    profiler: Annotated[bool, Doc("system metrics every second to the output path")]
    debugger: Annotated[bool, Doc("the debugger's hook")]
    ca_repository_arn: Annotated[str | None, Doc("CodeArtifact repository that the job installs from")]
    max_usd: Annotated[Positive | None, Doc("refuses a job that could cost more")]
    prices: Annotated[str | None, Doc("YAML file of prices by region and instance type; null is the built-in table")]
    wait: Annotated[bool, Doc("follows the job until it ends")]
    download: Annotated[bool, Doc("then fetches the artifact into paths.output_dir")]
    attach: Annotated[str | None, Doc("name of a job that runs already: follows it, sends nothing")]
    tuner: Annotated[bool, Doc("-m: one tuning job of the service does the whole sweep")]
    interrupt_after: Annotated[Count | None, Doc("rehearsal: epochs after which the capacity is taken away, once")]


LaunchSettings = LocalSettings | RemoteSettings


@dataclass(frozen=True, kw_only=True)
class Settings:
    """A whole run."""

    schema: SchemaSettings
    data: DataSettings
    model: Annotated[ComponentSettings, MODELS]
    loss: LossSettings
    optimizer: OptimizerSettings
    scheduler: SchedulerSettings
    trainer: TrainerSettings
    callbacks: CallbackSettings
    logger: LoggerSettings
    report: ReportSettings
    paths: PathSettings
    launch: LaunchSettings
    seed: Annotated[int, Range(ge=0, le=2**32 - 1), Doc("source of all randomness")]
    resume: Annotated[str, Doc("auto, must, never or the path of a checkpoint")]
    objective: Annotated[Metric, Doc("selects the best checkpoint, and is what a sweep optimizes")]
    baselines: Annotated[
        list[Literal["lightgbm", "xgboost", "catboost"]] | None,
        Doc("trees to score beside majority and logistic regression; null scores none of them"),
    ]
    decision: Annotated[
        str | None, Doc("what thresholds are chosen for on val: f1, precision>=0.9, cost={fp: 1, fn: 20}; null is 0.5")
    ]
    tags: list[str]
