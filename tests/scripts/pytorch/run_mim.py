"""Pretrain a Vision Transformer with masked image modeling (SimMIM), in the shape of transformers' own example."""

import sys
from dataclasses import dataclass, field

import numpy as np
import torch
from datasets import load_dataset
from PIL import Image
from transformers import HfArgumentParser, TrainingArguments, set_seed
from transformers.trainer_utils import get_last_checkpoint

from vit_torch import (
    CONFIG_MAPPING,
    IMAGE_PROCESSOR_MAPPING,
    MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING,
    AutoConfig,
    AutoImageProcessor,
    AutoModelForMaskedImageModeling,
)
from vit_torch.trainer import Trainer

MODEL_CONFIG_CLASSES = list(MODEL_FOR_MASKED_IMAGE_MODELING_MAPPING.keys())
MODEL_TYPES = tuple(conf.model_type for conf in MODEL_CONFIG_CLASSES)


@dataclass
class DataArguments:
    train_dir: str = field(metadata={"help": "A folder of pictures."})
    validation_dir: str = field(metadata={"help": "Another, for evaluation."})
    dataset_cache: str | None = field(default=None)
    mask_patch_size: int = field(default=8, metadata={"help": "The size of the square patches that are masked."})
    mask_ratio: float = field(default=0.6)


@dataclass
class ModelArguments:
    model_name_or_path: str | None = field(default=None)
    model_type: str | None = field(default=None, metadata={"help": "One of: " + ", ".join(MODEL_TYPES)})
    config_name_or_path: str | None = field(default=None)
    config_overrides: str | None = field(default=None, metadata={"help": "Such as: hidden_size=32,image_size=64"})
    image_processor_name: str | None = field(default=None)
    cache_dir: str | None = field(default=None)
    model_revision: str = field(default="main")
    token: str | None = field(default=None)
    image_size: int | None = field(default=None)
    patch_size: int | None = field(default=None)
    encoder_stride: int | None = field(default=None)


class MaskGenerator:
    """Random masks of an image: squares of `mask_patch_size` pixels, told as one entry for each patch of the model."""

    def __init__(self, input_size=192, mask_patch_size=32, model_patch_size=4, mask_ratio=0.6):
        if input_size % mask_patch_size != 0 or mask_patch_size % model_patch_size != 0:
            raise ValueError("Sizes must divide each other")
        self.rand_size = input_size // mask_patch_size
        self.scale = mask_patch_size // model_patch_size
        self.token_count = self.rand_size**2
        self.mask_count = int(np.ceil(self.token_count * mask_ratio))

    def __call__(self):
        mask_idx = np.random.permutation(self.token_count)[: self.mask_count]
        mask = np.zeros(self.token_count, dtype=int)
        mask[mask_idx] = 1
        mask = mask.reshape((self.rand_size, self.rand_size))
        mask = mask.repeat(self.scale, axis=0).repeat(self.scale, axis=1)
        return torch.tensor(mask.flatten())


def collate_fn(examples):
    pixel_values = torch.stack([example["pixel_values"] for example in examples])
    mask = torch.stack([example["mask"] for example in examples])
    return {"pixel_values": pixel_values, "bool_masked_pos": mask}


def main():
    parser = HfArgumentParser((ModelArguments, DataArguments, TrainingArguments))
    if len(sys.argv) == 2 and sys.argv[1].endswith(".json"):
        model_args, data_args, training_args = parser.parse_json_file(json_file=sys.argv[1])
    else:
        model_args, data_args, training_args = parser.parse_args_into_dataclasses()
    last_checkpoint = get_last_checkpoint(training_args.output_dir) if training_args.resume_from_checkpoint else None
    set_seed(training_args.seed)

    data_files = {"train": f"{data_args.train_dir}/**", "validation": f"{data_args.validation_dir}/**"}
    ds = load_dataset("imagefolder", data_files=data_files, cache_dir=data_args.dataset_cache)

    config_kwargs = {
        "cache_dir": model_args.cache_dir,
        "revision": model_args.model_revision,
        "token": model_args.token,
    }
    if model_args.config_name_or_path:
        config = AutoConfig.from_pretrained(model_args.config_name_or_path, **config_kwargs)
    elif model_args.model_name_or_path:
        config = AutoConfig.from_pretrained(model_args.model_name_or_path, **config_kwargs)
    else:
        config = CONFIG_MAPPING[model_args.model_type]()
        if model_args.config_overrides is not None:
            config.update_from_string(model_args.config_overrides)

    if hasattr(config, "decoder_type"):
        config.decoder_type = "simmim"
    model_args.image_size = model_args.image_size if model_args.image_size is not None else config.image_size
    model_args.patch_size = model_args.patch_size if model_args.patch_size is not None else config.patch_size
    model_args.encoder_stride = (
        model_args.encoder_stride if model_args.encoder_stride is not None else config.encoder_stride
    )
    config.update(
        {
            "image_size": model_args.image_size,
            "patch_size": model_args.patch_size,
            "encoder_stride": model_args.encoder_stride,
        }
    )

    if model_args.image_processor_name:
        image_processor = AutoImageProcessor.from_pretrained(model_args.image_processor_name, **config_kwargs)
    elif model_args.model_name_or_path:
        image_processor = AutoImageProcessor.from_pretrained(model_args.model_name_or_path, **config_kwargs)
    else:
        types = {conf.model_type: processor_class for conf, processor_class in IMAGE_PROCESSOR_MAPPING.items()}
        image_processor = types[model_args.model_type]()

    if model_args.model_name_or_path:
        model = AutoModelForMaskedImageModeling.from_pretrained(
            model_args.model_name_or_path,
            from_tf=bool(".ckpt" in model_args.model_name_or_path),
            config=config,
            cache_dir=model_args.cache_dir,
            revision=model_args.model_revision,
            token=model_args.token,
        )
    else:
        model = AutoModelForMaskedImageModeling.from_config(config)

    mean = np.asarray(image_processor.image_mean, dtype=np.float32)
    std = np.asarray(image_processor.image_std, dtype=np.float32)
    mask_generator = MaskGenerator(
        input_size=model_args.image_size,
        mask_patch_size=data_args.mask_patch_size,
        model_patch_size=model_args.patch_size,
        mask_ratio=data_args.mask_ratio,
    )

    def preprocess_images(examples):
        examples["pixel_values"] = []
        for image in examples["image"]:
            size = (model_args.image_size, model_args.image_size)
            pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
            examples["pixel_values"].append(torch.from_numpy(((pixels / 255 - mean) / std).transpose(2, 0, 1).copy()))
        examples["mask"] = [mask_generator() for _ in examples["image"]]
        return examples

    ds["train"].set_transform(preprocess_images)
    ds["validation"].set_transform(preprocess_images)

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=ds["train"] if training_args.do_train else None,
        eval_dataset=ds["validation"] if training_args.do_eval else None,
        processing_class=image_processor,
        data_collator=collate_fn,
    )
    if training_args.do_train:
        train_result = trainer.train(resume_from_checkpoint=last_checkpoint)
        trainer.save_model()
        trainer.log_metrics("train", train_result.metrics)
        trainer.save_metrics("train", train_result.metrics)
        trainer.save_state()
    if training_args.do_eval:
        metrics = trainer.evaluate()
        trainer.log_metrics("eval", metrics)
        trainer.save_metrics("eval", metrics)
    kwargs = {"finetuned_from": model_args.model_name_or_path, "tasks": "masked-image-modeling"}
    trainer.create_model_card(**kwargs)


if __name__ == "__main__":
    main()
