"""The cluster examples build a TF_CONFIG that `nmt train` reads; the schedulers' commands are stand-ins."""

import json
import os
import subprocess
from pathlib import Path

import pytest
import yaml

from nmt.backend.cluster import Cluster, read_cluster

FOLDER = Path(__file__).parent.parent.parent / "examples" / "cluster"
STAND_INS = {
    "nmt": 'printf "%s\\n" "$TF_CONFIG" "$*"',
    "scontrol": '[ "$*" = "show hostnames node[3,7-8]" ] && printf "node%s\\n" 3 7 8',
    "srun": 'shift; for SLURM_PROCID in 0 1 2; do export SLURM_PROCID; "$@"; done',
}


@pytest.fixture
def run(tmp_path):
    """Run a command where `nmt` and Slurm's commands are stand-ins; return its output, line by line."""
    for name, script in STAND_INS.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{script}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)

    def run(*command, **environment):
        path = f"{tmp_path}:{os.environ['PATH']}"
        done = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": path, **environment})
        return done.stdout.splitlines()

    return run


def test_slurm_gives_every_task_its_number(run):
    script = FOLDER / "train.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    lines = run("bash", script, "my config.yaml", SLURM_JOB_ID="41002", SLURM_JOB_NODELIST="node[3,7-8]")
    addresses = ("node3:21002", "node7:21002", "node8:21002")
    assert [read_cluster({"TF_CONFIG": text}) for text in lines[::2]] == [Cluster(addresses, n) for n in range(3)]
    assert set(lines[1::2]) == {"train my config.yaml --set training.distribution=multi_worker"}


def test_slurm_gives_every_task_its_part(run):
    script = FOLDER / "translate.sbatch"
    subprocess.run(["bash", "-n", script], check=True)
    task = {"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "16", "SLURM_CPUS_PER_TASK": "4"}
    _, call = run("bash", script, "my run", "in.es", "out", "--format", "jsonl", **task)
    assert call == (
        "translate my run --input in.es --output out.007.gz --shard 7/16 --resume --threads 4 --format jsonl"
    )


def test_kubernetes_gives_every_pod_its_number_and_the_others_names(run):
    service, job = yaml.safe_load_all((FOLDER / "train.yaml").read_text(encoding="utf-8"))
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert (service["kind"], service["spec"]["clusterIP"]) == ("Service", "None")
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    assert service["spec"]["publishNotReadyAddresses"] is True
    assert pod["subdomain"] == service["metadata"]["name"]
    assert (job["kind"], spec["completionMode"]) == ("Job", "Indexed")
    assert spec["completions"] == spec["parallelism"] == int(environment["WORKERS"])
    ports = {service["spec"]["ports"][0]["port"], container["ports"][0]["containerPort"], int(environment["PORT"])}
    assert ports == {2222}
    names = tuple(f"{job['metadata']['name']}-{n}.{pod['subdomain']}:2222" for n in range(spec["completions"]))
    for number in range(spec["completions"]):
        text, call = run(*container["command"], *container["args"], JOB_COMPLETION_INDEX=str(number), **environment)
        assert read_cluster({"TF_CONFIG": text}) == Cluster(names, number)
        assert call == "train /data/config.yaml --set training.distribution=multi_worker"
        json.loads(text)
