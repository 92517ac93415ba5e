"""Packaging of `nmt`: what it is called, what it needs, what it installs."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (HERE / "nmt" / "version.py").read_text(encoding="utf-8"), re.MULTILINE)
if VERSION is None:
    raise RuntimeError('nmt/version.py has no line of the form __version__ = "X.Y.Z"')

CTRANSLATE2 = "ctranslate2>=4.5"  # the first that works with NumPy 2
MATPLOTLIB = "matplotlib>=3.9"  # the same
PY3LANGID = "py3langid>=0.4"  # its model ships in the package
ZSTANDARD = "zstandard>=0.23"

setup(
    name="nmt",
    version=VERSION.group(1),
    description="Neural machine translation on Keras 3 and TensorFlow, with three-way weight tying",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="MIT",
    keywords="neural machine translation, NMT, Keras, TensorFlow, Transformer, weight tying, beam search, BLEU",
    classifiers=[
        "Development Status :: 4 - Beta",
        "Environment :: Console",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "License :: OSI Approved :: MIT License",
        "Operating System :: MacOS",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Text Processing :: Linguistic",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    packages=find_packages(include=["nmt", "nmt.*"]),
    package_data={"nmt": ["py.typed", "*.pyi"]},
    include_package_data=True,
    install_requires=[
        "tensorflow>=2.20",
        "keras>=3.15",
        "numpy>=2.0",
        "sacrebleu>=2.4",
        "pyyaml>=6.0",
        "sentencepiece>=0.2",
        "pydantic>=2.9",
        "typer>=0.15",
        "rich>=13.0",
    ],
    extras_require={
        "ctranslate2": [CTRANSLATE2],
        "plot": [MATPLOTLIB],
        "zstd": [ZSTANDARD],
        "langid": [PY3LANGID],
        "dev": [
            CTRANSLATE2,
            MATPLOTLIB,
            PY3LANGID,
            ZSTANDARD,
            "pytest>=8.0",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "safetensors>=0.5",  # reads our files, so that they are what it says
            "ruff>=0.8",
            "mypy>=1.13",
            "types-PyYAML>=6.0",
        ],
    },
    entry_points={"console_scripts": ["nmt = nmt.cli.main:main"]},
)
