"""Every check and demonstration of this project: `nox -l` lists them, `nox -s NAME` runs one."""

import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "lint", "types", "imports", "docs"]

BACKENDS = ["torch", "tf", "flax"]  # extras of the package, and names for `trivit classify --backend`
#: What scripts for transformers use beside it, and the tests of such scripts.
BESIDE_TRANSFORMERS = ["accelerate", "datasets", "h5py", "lightning", "peft"]
CHECKPOINT_TESTS = [
    *("interop/test_transformers.py", "interop/test_transformers_state_dict.py"),
    *("interop/test_relatives.py", "interop/test_modern_relatives.py", "interop/test_backbones.py"),
]
TRANSFORMERS_TESTS = [
    *CHECKPOINT_TESTS,
    *("interop/test_trainer.py", "interop/test_accelerate.py"),
    *(f"docs/test_examples.py::test_examples_run[docs/{page}.md]" for page in ("migrate", "trainer")),
    "scripts/pytorch",
]
#: Whom checkpoints are exchanged with: our backend, their packages, and the tests.
OTHER_SIDES = {
    "transformers-4": ("torch", ["transformers==4.47.1", *BESIDE_TRANSFORMERS], TRANSFORMERS_TESTS),
    "transformers-4.57": ("torch", ["transformers==4.57.6"], CHECKPOINT_TESTS),
    "transformers-5": ("torch", ["transformers==5.*", *BESIDE_TRANSFORMERS], TRANSFORMERS_TESTS),
    "transformers-tf-flax": (
        "torch",
        [
            *("transformers==4.47.1", "tensorflow-cpu==2.17.1", "tf-keras==2.17.0"),
            *("jax==0.4.35", "jaxlib==0.4.35", "flax==0.10.2", "optax==0.2.5", "numpy<2"),
        ],
        ["interop/test_transformers_tf_flax.py", "scripts/flax"],
    ),
    "timm-torchvision": (
        "torch",
        ["timm==1.0.*", "torchvision", "captum", "grad-cam", "peft", "torchao", "torchinfo"],
        ["interop/test_timm.py", "interop/test_torchvision.py", "interop/test_torch_packages.py"],
    ),
    "transformers-5-tf": ("tf", ["transformers==5.*", "datasets"], ["scripts/tensorflow"]),
    "keras-hub": (
        "tf",
        ["keras-hub==0.32.*"],
        ["interop/test_keras_hub.py", "interop/test_keras_hub_relatives.py"],
    ),
}
#: Whose common tests our classes pass, and what they need: our backends, packages, and the tests in tests/peer_tests.
PEER = "transformers==4.47.1"
PEER_TESTS = {
    "torch": (["torch"], ["accelerate"], ["torch", "config", "image_processors"]),
    "tf": (["tf", "torch"], ["tf-keras", "datasets"], ["tf"]),
    "flax": (["flax", "torch"], [], ["flax"]),
}
#: What users read and run: examples in the documentation, scripts as people write them, those of examples/ and those
#: that made the bundled models. They have a run of their own, since they train for real.
EXAMPLES = [
    *("tests/docs", "tests/scripts", "tests/flax/test_finetune_flax.py", "tests/tf/test_finetune_keras.py"),
    *("tests/torch/test_finetune_torch.py", "tests/torch/test_bundled_digits.py", "tests/torch/test_bundled_mae.py"),
]
GROUPS = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *extras: str, groups: tuple[str, ...] = ()) -> None:
    """Install the package with extras and dependency groups, at the versions that constraints.txt names."""
    package = f".[{','.join(extras)}]" if extras else "."
    session.install("-c", "constraints.txt", package, *nox.project.dependency_groups(GROUPS, *groups))


@nox.session
def demo(session: nox.Session) -> None:
    """Classify handwritten digits in every framework, draw where the model looked and what a masked autoencoder paints,
    and convert and verify the model.
    """
    install(session, *BACKENDS, "cli")
    images = "vit_core/bundled/vit-digits/test_images"
    for backend in BACKENDS:
        session.run("trivit", "classify", images, "--backend", backend, "--picture", f"demo/{backend}.png")
    session.run("trivit", "reconstruct", images, "--picture", "demo/reconstruction.png")
    session.run("trivit", "convert", "bundled/vit-digits", "demo/flax", "--to", "transformers-flax", "--overwrite")
    session.run("trivit", "verify", "demo/flax")


@nox.session
def tests(session: nox.Session) -> None:
    """Test the package; after --: the word examples for pages, scripts and examples instead, or arguments of pytest."""
    install(session, *BACKENDS, "cli", groups=("test",))
    # Each worker takes neighbouring tests, so that it needs few frameworks, and what another has not begun at the end.
    parallel = ["-n", "2", "--dist", "worksteal"]
    if session.posargs == ["examples"]:
        session.run("pytest", *parallel, *EXAMPLES)
    else:
        session.run("pytest", *(session.posargs or [*parallel, *(f"--deselect={path}" for path in EXAMPLES)]))


@nox.session
def coverage(session: nox.Session) -> None:
    """Print how many of timm's Vision Transformers open here, in every framework; a word after -- chooses by name."""
    install(session, *BACKENDS)
    _, packages, _ = OTHER_SIDES["timm-torchvision"]
    session.install("-c", "constraints.txt", *(package for package in packages if package.startswith("timm")))
    session.run("python", "tests/interop/timm_coverage.py", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure speed and memory beside the peers, for the page on speed; after --: --quick, --long, subjects, --rows."""
    environments = benchmark_environments()
    pythons = []
    for name, environment in environments.items():
        if environment.extras:
            install(session, *environment.extras)
            session.install("-c", "constraints.txt", *environment.packages)
            continue
        folder = Path(session.virtualenv.location).resolve().parent / f"bench-{name}"
        if not folder.exists():
            session.run(sys.executable, "-m", "virtualenv", "--quiet", str(folder), external=True)
        pip = (str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet")
        constraints = Path("constraints.txt").read_text().splitlines()
        if not environment.is_constrained:  # their old versions need old packages: only torch is constrained
            constraints = [line for line in constraints if line.startswith("torch==")]
        constrained = folder / "constraints.txt"
        constrained.write_text("\n".join(constraints))
        session.run(*pip, "-c", str(constrained), *environment.packages, external=True)
        if environment.without_dependencies:
            session.run(*pip, "--no-deps", *environment.without_dependencies, external=True)
        pythons += ["--python", f"{name}={folder / 'bin' / 'python'}"]
    session.run("python", "-m", "benchmarks", *pythons, *session.posargs)


def benchmark_environments() -> dict[str, Any]:
    """What the benchmarks need, by environment."""
    return runpy.run_path("benchmarks/environments.py")["ENVIRONMENTS"]


@nox.session
def kills(session: nox.Session) -> None:
    """Kill saves of every framework and of trivit convert a thousand times; after --: --kills N, --savers, --disks."""
    install(session, *BACKENDS, "cli")
    session.run("python", "tests/attacks/kills.py", *session.posargs, env={"TF_CPP_MIN_LOG_LEVEL": "3"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Open changed files with each reader of a stranger's bytes, ten minutes each; after --: --minutes M, --targets."""
    install(session, "cli")
    session.install("-c", "constraints.txt", "msgpack")
    session.run("python", "tests/fuzz/fuzz.py", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install("-c", "constraints.txt", *nox.project.dependency_groups(GROUPS, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy."""
    install(session, "torch", "flax", "onnx", "cli", groups=("types",))
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that imports point down only."""
    install(session, groups=("imports",))
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a broken link or reference is an error."""
    install(session, groups=("docs",))  # the package too: pages show its tables of formats
    session.run("mkdocs", "build", "--strict")


@nox.session
@nox.parametrize("side", list(OTHER_SIDES), ids=list(OTHER_SIDES))
def interop(session: nox.Session, side: str) -> None:
    """Exchange checkpoints with other libraries, whose old versions need old packages: only torch is constrained."""
    constraints = Path("constraints.txt").read_text().splitlines()
    torch = [line for line in constraints if line.startswith("torch==")]
    backend, packages, tests = OTHER_SIDES[side]
    constrained = torch if backend == "torch" else []
    session.install(*constrained, f".[{backend}]", *packages, "pytest", "hypothesis")
    session.run("pytest", *(f"tests/{test}" for test in tests), "-W", "default", *session.posargs)


@nox.session
@nox.parametrize("backend", list(PEER_TESTS), ids=list(PEER_TESTS))
def peer_tests(session: nox.Session, backend: str) -> None:
    """Run the common tests that transformers 4.47.1 runs on its own ViT on our classes; tests/peer_tests tells more."""
    frameworks = ("torch", "tensorflow", "keras", "optree", "jax", "jaxlib", "flax", "optax", "numpy")
    constraints = Path("constraints.txt").read_text().splitlines()
    constrained = [line for line in constraints if line.partition("==")[0] in frameworks]
    folder = Path(session.create_tmp()).resolve()
    (folder / "constraints.txt").write_text("\n".join(constrained))
    extras, packages, tests = PEER_TESTS[backend]
    session.install(
        *("-c", str(folder / "constraints.txt"), f".[{','.join(extras)}]", PEER, *packages),
        *("pytest", "hypothesis", "parameterized"),
    )
    session.run("pip", "download", "--no-deps", "--no-binary", ":all:", "--dest", str(folder), PEER)
    shutil.unpack_archive(next(folder.glob("transformers-*.tar.gz")), folder, filter="data")
    environment = {
        "TRANSFORMERS_SDIST": str(folder / PEER.replace("==", "-")),
        **{"RUN_SLOW": "1", "RUN_PT_TF_CROSS_TESTS": "1", "RUN_PT_FLAX_CROSS_TESTS": "1", "HF_HUB_OFFLINE": "1"},
        "CUDA_VISIBLE_DEVICES": "",  # the same methods skip themselves on every machine
    }
    files = [f"tests/peer_tests/test_{test}.py" for test in tests]
    session.run("pytest", *files, "-W", "default", *session.posargs, env=environment)  # warnings are theirs to have
