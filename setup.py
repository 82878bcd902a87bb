"""Map the top-level folders onto one import package: components/x -> kfp_custody.components.x."""

from setuptools import find_packages, setup

ROOTS = ("components", "pipelines")
NAMES = [name for root in ROOTS for name in (root, *(f"{root}.{part}" for part in find_packages(root)))]
setup(
    packages=[f"kfp_custody.{name}" for name in NAMES],
    package_dir={f"kfp_custody.{root}": root for root in ROOTS},
    package_data={"": ["**/*.yaml", "**/*.json", "py.typed"]},
)
