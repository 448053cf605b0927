"""Pretrain with masked image modeling (SimMIM) and accelerate, in the shape of transformers' own example."""

import argparse
import json
import math
import os

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from datasets import load_dataset
from PIL import Image
from torch.utils.data import DataLoader
from transformers import get_scheduler

from vit_torch import CONFIG_MAPPING, AutoModelForMaskedImageModeling, ViTImageProcessor


def parse_args():
    parser = argparse.ArgumentParser()
    parser.add_argument("--train_dir", required=True)
    parser.add_argument("--model_type", default="vit")
    parser.add_argument("--config_overrides", default=None)
    parser.add_argument("--mask_patch_size", type=int, default=8)
    parser.add_argument("--mask_ratio", type=float, default=0.6)
    parser.add_argument("--per_device_train_batch_size", type=int, default=8)
    parser.add_argument("--gradient_accumulation_steps", type=int, default=2)
    parser.add_argument("--learning_rate", type=float, default=5e-3)
    parser.add_argument("--num_train_epochs", type=int, default=2)
    parser.add_argument("--output_dir", required=True)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def main():
    args = parse_args()
    accelerator = Accelerator(gradient_accumulation_steps=args.gradient_accumulation_steps, cpu=True)
    set_seed(args.seed)

    ds = load_dataset(
        "imagefolder", data_files={"train": f"{args.train_dir}/**"}, cache_dir=os.environ.get("HF_DATASETS_CACHE")
    )
    config = CONFIG_MAPPING[args.model_type]()
    if args.config_overrides is not None:
        config.update_from_string(args.config_overrides)
    image_processor = ViTImageProcessor(size={"height": config.image_size, "width": config.image_size})
    model = AutoModelForMaskedImageModeling.from_config(config, trust_remote_code=False)

    masks_per_side = config.image_size // args.mask_patch_size
    scale = args.mask_patch_size // config.patch_size

    def random_mask():
        chosen = torch.randperm(masks_per_side**2)[: math.ceil(masks_per_side**2 * args.mask_ratio)]
        mask = torch.zeros(masks_per_side**2, dtype=torch.long)
        mask[chosen] = 1
        mask = mask.view(masks_per_side, masks_per_side)
        return mask.repeat_interleave(scale, 0).repeat_interleave(scale, 1).flatten()

    def preprocess_images(examples):
        examples["pixel_values"] = []
        for image in examples["image"]:
            size = (config.image_size, config.image_size)
            pixels = np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=np.float32)
            pixels = (pixels / 255 - np.float32(image_processor.image_mean)) / np.float32(image_processor.image_std)
            examples["pixel_values"].append(torch.from_numpy(pixels.transpose(2, 0, 1).copy()))
        examples["mask"] = [random_mask() for _ in examples["image"]]
        return examples

    def collate_fn(examples):
        pixel_values = torch.stack([example["pixel_values"] for example in examples])
        mask = torch.stack([example["mask"] for example in examples])
        return {"pixel_values": pixel_values, "bool_masked_pos": mask}

    ds["train"].set_transform(preprocess_images)
    train_dataloader = DataLoader(
        ds["train"], shuffle=True, collate_fn=collate_fn, batch_size=args.per_device_train_batch_size
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.learning_rate)
    lr_scheduler = get_scheduler(
        name="linear",
        optimizer=optimizer,
        num_warmup_steps=0,
        num_training_steps=args.num_train_epochs * len(train_dataloader),
    )
    model, optimizer, train_dataloader, lr_scheduler = accelerator.prepare(
        model, optimizer, train_dataloader, lr_scheduler
    )
    model.tie_weights()

    losses = []
    for _ in range(args.num_train_epochs):
        model.train()
        for batch in train_dataloader:
            with accelerator.accumulate(model):
                loss = model(**batch).loss
                accelerator.backward(loss)
                optimizer.step()
                lr_scheduler.step()
                optimizer.zero_grad()
            losses.append(accelerator.gather(loss.detach().repeat(args.per_device_train_batch_size)).mean().item())

    accelerator.wait_for_everyone()
    unwrapped_model = accelerator.unwrap_model(model)
    unwrapped_model.save_pretrained(
        args.output_dir,
        is_main_process=accelerator.is_main_process,
        save_function=accelerator.save,
        state_dict=accelerator.get_state_dict(model),
    )
    if accelerator.is_main_process:
        image_processor.save_pretrained(args.output_dir)
        with open(os.path.join(args.output_dir, "all_results.json"), "w") as f:
            json.dump({"train_loss": losses[-1], "first_loss": losses[0]}, f)


if __name__ == "__main__":
    main()
