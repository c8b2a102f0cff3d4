"""The packages of the wheel: configs/, which stands beside fsljax here, is fsljax.configs there."""

from setuptools import find_namespace_packages, setup

setup(
    packages=[*find_namespace_packages(include=["fsljax*"]), "fsljax.configs", "fsljax.configs.tables"],
    package_dir={"fsljax.configs": "configs", "fsljax.configs.tables": "configs/tables"},
)
