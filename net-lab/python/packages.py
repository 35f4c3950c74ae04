"""Steps of the client: package managers as people have them, with their own settings, in a project of their own.

Their caches are in HOME. They are told of the laboratory's authority as they usually are of a company's, and not to try
again, so that what fails once has failed.
"""

import json
import os
import re
import subprocess
import sys

SETTINGS = {
    # Not what the machine has set for everyone.
    "npm_config_globalconfig": "/dev/null",
    "PIP_CONFIG_FILE": "/dev/null",
    "npm_config_cafile": "{ca}",
    "npm_config_fetch_retries": "0",
    "npm_config_update_notifier": "false",
    "PIP_CERT": "{ca}",
    "PIP_RETRIES": "0",
    "CARGO_HTTP_CAINFO": "{ca}",
    "CARGO_NET_RETRY": "0",
}
# Settings that the tests may have been started with.
OTHERS = ("npm_", "pip_", "cargo", "rustup_", "requests_")
# What they say where a name is not found; pip only says so when it tries again.
NOT_FOUND = re.compile(r"ENOTFOUND|no matching distribution found|could not resolve host", re.IGNORECASE)
# Under emulation npm takes a minute.
PATIENCE = 400


def manage(directory, *command):
    """Runs it there: its status, and what was wrong."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().startswith(OTHERS)}
    environment.update((name, value.format(ca=f"{sys.argv[1]}/ca.pem")) for name, value in SETTINGS.items())
    done = subprocess.run(
        command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE
    )
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode == 0:
        return "0"
    sys.stderr.write(text)
    found = NOT_FOUND.search(text)
    return f"{done.returncode} {found[0].lower() if found else 'see its messages'}"


def project(name, files):
    directory = f"{os.getcwd()}/{name}"
    for path, text in files.items():
        os.makedirs(os.path.dirname(f"{directory}/{path}"), exist_ok=True)
        with open(f"{directory}/{path}", "w") as file:
            file.write(text)
    return directory


def listed(result, names):
    return f"{result} {' '.join(sorted(names))}".strip()


def npm(package):
    """`npm install`: what is in node_modules then."""
    directory = project("npm", {"package.json": json.dumps({"name": "project", "version": "1.0.0"})})
    result = manage(directory, "npm", "install", package)
    modules, found = f"{directory}/node_modules", []
    for name in os.listdir(modules) if os.path.isdir(modules) else []:
        if not name.startswith("."):
            with open(f"{modules}/{name}/package.json") as file:
                about = json.load(file)
            found.append(f"{about['name']}@{about['version']}")
    return listed(result, found)


def pip(package):
    """`pip download`: the files."""
    directory = project("pip", {"README": ""})
    result = manage(directory, sys.executable, "-m", "pip", "download", "--dest", "wheels", package)
    wheels = f"{directory}/wheels"
    return listed(result, os.listdir(wheels) if os.path.isdir(wheels) else [])


def cargo(package):
    """`cargo fetch`: the crates in the cache, and whether they are locked."""
    manifest = f'[package]\nname = "project"\nversion = "1.0.0"\nedition = "2021"\n[dependencies]\n{package} = "1"\n'
    # Whatever project this one happens to lie in, it is not of it.
    directory = project("cargo", {"Cargo.toml": f"{manifest}[workspace]\n", "src/lib.rs": ""})
    result = manage(directory, "cargo", "fetch")
    found = []
    for _, _, names in os.walk(os.path.expanduser("~/.cargo/registry/cache")):
        found += (name for name in names if name.endswith(".crate"))
    if os.path.exists(f"{directory}/Cargo.lock"):
        found.append("and a lock")
    return listed(result, found)
