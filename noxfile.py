"""Every check and demonstration of this project: `nox -l` lists them, `nox -s NAME` runs one."""

from pathlib import Path

import nox

nox.options.default_venv_backend = "virtualenv"
nox.options.sessions = ["tests", "lint", "types", "imports", "docs"]

BACKENDS = ["torch", "tf", "flax"]  # extras of the package, and names for `trivit classify --backend`
GROUPS = nox.project.load_toml("pyproject.toml")


def install(session: nox.Session, *extras: str, groups: tuple[str, ...] = ()) -> None:
    """Install the package with extras and dependency groups, at the versions that constraints.txt names."""
    package = f".[{','.join(extras)}]" if extras else "."
    session.install("-c", "constraints.txt", package, *nox.project.dependency_groups(GROUPS, *groups))


@nox.session
def demo(session: nox.Session) -> None:
    """Classify handwritten digits that training never saw, and draw where the model looked."""
    install(session, *BACKENDS, "cli")
    for backend in BACKENDS:
        images = "vit_core/bundled/vit-digits/test_images"
        session.run("trivit", "classify", images, "--backend", backend, "--picture", f"demo/{backend}.png")


@nox.session
def tests(session: nox.Session) -> None:
    """Run all tests; arguments after -- go to pytest."""
    install(session, *BACKENDS, "cli", groups=("test",))
    session.run("pytest", *(session.posargs or ["-n", "2"]))


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff."""
    session.install("-c", "constraints.txt", *nox.project.dependency_groups(GROUPS, "lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types with mypy."""
    install(session, *BACKENDS, "cli", groups=("types",))
    session.run("mypy")


@nox.session
def imports(session: nox.Session) -> None:
    """Check that imports point down only."""
    install(session, groups=("imports",))
    session.run("lint-imports")


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation into site/; a broken link or reference is an error."""
    session.install("-c", "constraints.txt", *nox.project.dependency_groups(GROUPS, "docs"))
    session.run("mkdocs", "build", "--strict")


@nox.session
@nox.parametrize("transformers", ["4.47.1", "5.*"])
def interop(session: nox.Session, transformers: str) -> None:
    """Exchange checkpoints with transformers, whose old versions need old packages: only torch is constrained."""
    constraints = Path("constraints.txt").read_text().splitlines()
    torch = next(line for line in constraints if line.startswith("torch=="))
    newer = ["peft"] if transformers.startswith("5") else []
    session.install(torch, f"transformers=={transformers}", ".[torch]", "pytest", "hypothesis", *newer)
    session.run("pytest", "tests/interop", "-W", "default", *session.posargs)
