"""The batches of a run: augmented images, and what the network is to answer."""

from collections.abc import Iterator
from dataclasses import dataclass

import tensorflow as tf

from training import UserError
from training.trainer import answers, data, hardware, targets
from training.trainer.answers import Teacher
from training.trainer.augmentation import Augmentation, Flip
from training.trainer.config import Config


@dataclass(frozen=True)
class Batches:
    """What a run learns from.

    Attributes:
        config: Of the run.
        dataset: Its labels are numbers, or, where `config` has soft targets, probabilities.
        teacher: Gives soft targets.
        steps: Batches of an epoch.
    """

    config: Config
    dataset: data.Data
    teacher: Teacher | None
    steps: int

    @classmethod
    def prepare(cls, config: Config, dataset: data.Data) -> "Batches":
        """Load the teacher, and set precision and seed: before any weight is drawn.

        Raises:
            UserError: There are too few images, or there is no such teacher.
        """
        images = len(dataset.train[1])
        if images < config.batch_size:
            raise UserError(
                f"--batch-size {config.batch_size} is more than the {images} training images "
                f"of {config.dataset}"
            )
        tf.keras.mixed_precision.set_global_policy(config.precision)
        teacher = None
        if config.distill != "none":
            model = targets.load_teacher(config.distill, config.dataset, dataset.source)
            learner = hardware.learner(model, config.kernels, config.batch_size)
            teacher = answers.log_probabilities(learner)
            if config.distinct_epochs:
                place = answers.place(model, config.cache_dir)
                teacher = answers.stored(teacher, place, len(dataset.source.labels))
        tf.keras.utils.set_random_seed(config.seed)
        tf.config.experimental.enable_op_determinism()
        if config.soft_targets:
            dataset = targets.one_hot(dataset, config.label_smoothing)
        return cls(config, dataset, teacher, images // config.batch_size)

    @property
    def loss(self) -> str:
        """Keras's name of the loss."""
        return f"{'' if self.config.soft_targets else 'sparse_'}categorical_crossentropy"

    def training(
        self, epochs: range, share: int, context: tf.distribute.InputContext
    ) -> tf.data.Dataset:
        """Batches (images, targets) of `share` images, this worker's part of each whole batch.

        With `--class-weights` a weight for each image is third.
        """
        batches = self._augmented(epochs, context.input_pipeline_id, context.num_input_pipelines)
        if self.config.class_weights == "balanced":
            batches = targets.weighted(batches, self.dataset.train[1])
        if self.teacher is not None:
            weight, temperature = self.config.distill_weight, self.config.distill_temperature
            batches = targets.distill(batches, self.teacher, weight, temperature)
        several = self.config.batch_size // context.num_input_pipelines != share
        return batches.rebatch(share) if several else batches

    def calibration(self, epoch: int) -> Iterator[tf.Tensor]:
        """Images alone, `--calibration` batches as they would come after an epoch."""
        count = self.config.calibration
        batches = self._augmented(range(epoch, epoch + count // self.steps + 1))
        return (images for images, _ in batches.take(count))

    def _augmented(self, epochs: range, worker: int = 0, workers: int = 1) -> tf.data.Dataset:
        config = self.config
        by_default: Flip = "horizontal" if self.dataset.source.flip else "none"
        augmentation = Augmentation(
            flip=by_default if config.flip == "auto" else config.flip,
            padding=config.crop_padding,
            cutout=config.cutout,
            color_jitter=config.color_jitter,
            trivial=config.augment == "trivial",
        )
        return data.training_batches(
            self.dataset.train,
            augmentation,
            batch_size=config.batch_size,
            seed=config.seed,
            epochs=epochs,
            distinct=config.distinct_epochs,
            worker=worker,
            workers=workers,
        )
