import subprocess
import sys

import pytest


@pytest.mark.parametrize("package", ["torch", "jaxtyping"])
def test_a_missing_package_is_named_with_the_extra_that_brings_it(package):
    code = f"import sys; sys.modules[{package!r}] = None; import vit_torch"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'vit_torch needs {package}, which is not installed: pip install "trivit[torch]"' in run.stderr


def test_the_models_bring_no_compiler_no_other_framework_nor_what_scripts_use_beside_them():
    others = {
        "torch._dynamo",
        "tensorflow",
        "keras",
        "jax",
        "flax",
        "transformers",
        "peft",
        "accelerate",
        "vit_torch.trainer",
    }
    code = f"import sys, vit_torch; print(*{others} & set(sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


def test_the_trainer_alone_needs_transformers_and_says_so():
    code = "import sys; sys.modules['transformers'] = None; import vit_torch.trainer"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert 'vit_torch.trainer needs transformers and accelerate: pip install "transformers[torch]"' in run.stderr
