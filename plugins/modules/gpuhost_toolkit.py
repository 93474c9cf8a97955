#!/usr/bin/python
"""Install a CUDA toolkit or cuDNN into the store of a host, remove one, or tell the linker which is in force."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import download, progress, store
from ansible.module_utils.gpuhost.host.toolkit import install as toolkits
from ansible.module_utils.gpuhost.host.toolkit import linker

DOCUMENTATION = r"""
module: gpuhost_toolkit
short_description: Install a CUDA toolkit or cuDNN into the store, remove one, or tell the linker which is in force
description:
  - C(present) makes C(<root>/store/<name>-<version>-<digest>) from NVIDIA's runfile or tarball, or from its wheels.
  - A folder that is complete is left alone; one that a killed run left is made again.
  - C(absent) deletes the folders of a version that no generation needs.
  - C(linked) writes C(/etc/ld.so.conf.d/gpuhost.conf) and C(/etc/profile.d/gpuhost.sh) for the links C(cuda) and
    C(cudnn) of the generation in force, and rebuilds the linker's cache when they lead elsewhere than before. Without
    such links, and with C(unlinked), the files are not there.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  name: {description: "For C(present) and C(absent), C(cuda) or C(cudnn).", type: str}
  spec: {description: 'What to install, as the filter gpuhost_specs gives it.', type: dict}
  artifact:
    description: "The vendor's file on the host, for a runfile or a tarball; by default the one in the cache."
    type: path
  python: {description: The interpreter whose pip fetches wheels., type: path, default: /usr/bin/python3}
  version: {description: The version to remove., type: str}
  links:
    description: >-
      For C(linked), links that are about to be in force beside those that are, so that check mode can tell what will
      come.
    type: dict
    default: {}
  progress: {description: The file in which each step is left while the work goes on., type: path}
  state: {description: What to do., type: str, choices: [present, absent, linked, unlinked], default: present}
author: gpuhost
"""

EXAMPLES = r"""
- name: Let the linker and the shells find the toolkit in force
  gpuhost_toolkit:
    state: linked

- name: Delete what is left of CUDA 10.0
  gpuhost_toolkit:
    name: cuda
    version: 10.0.130
    state: absent
"""

RETURN = r"""
folder: {description: "The folder, relative to C(root).", type: str, returned: when present}
missing: {description: Whether it is still to be installed., type: bool, returned: when present}
told: {description: What is gone and what is kept and why., type: str, returned: when absent}
removed: {description: The store folders that were deleted., type: list, returned: when absent}
kept: {description: The store folders that generations need., type: dict, returned: when absent}
links: {description: The links that the linker's configuration names., type: dict, returned: when linked or unlinked}
"""


def absent(module, root):
    """Delete what nobody needs."""
    found = toolkits.remove(root, module.params["name"], module.params["version"] or "", module.check_mode)
    diff = {"before": "".join(name + "\n" for name in found["removed"]), "after": ""}
    module.exit_json(
        changed=bool(found["removed"]), diff=diff, told=toolkits.told(module.params["name"], found), **found
    )


def present(module, root):
    """Install, or say what would be installed."""
    spec = module.params["spec"]
    folder = toolkits.folder_of(root, spec)
    relative = str(folder.relative_to(root))
    if store.is_whole(folder, spec["digest"]):
        module.exit_json(changed=False, missing=False, folder=relative)
    if module.check_mode:
        listed = "".join("{name} {version}\n".format(**p) for p in spec.get("packages") or [spec])
        diff = {"before": "", "after": listed, "after_header": str(folder)}
        module.exit_json(changed=True, missing=True, folder=relative, diff=diff)
    artifact = module.params["artifact"]
    if artifact is None and "file" in spec:
        artifact = download.place(root / "cache" / "artifacts", spec["file"])
    with progress.told(module.params["progress"], "{name} {version}".format(**spec)) as say:
        toolkits.install(root, spec, Path(artifact) if artifact else None, module.params["python"], say)
    module.exit_json(changed=True, missing=False, folder=relative)


def linked(module, root):
    """Write the linker's and the shells' files and rebuild the linker's cache, or say what would be written."""
    top = Path("/")
    links = linker.present(root, module.params["links"]) if module.params["state"] == "linked" else None
    todo = linker.changes(root, top, links)
    changed = bool(todo["files"] or todo["ldconfig"])
    if changed and not module.check_mode:
        with store.changing(root, "telling the linker"):
            todo = linker.changes(root, top, links)
            linker.apply(root, top, todo)
    module.exit_json(changed=changed, links=todo["links"], diff=linker.differences(todo))


STATES = {"present": present, "absent": absent, "linked": linked, "unlinked": linked}


def main():
    """Read the arguments, do it or say what would be done."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "name": {"type": "str"},
            "spec": {"type": "dict"},
            "artifact": {"type": "path"},
            "python": {"type": "path", "default": "/usr/bin/python3"},
            "version": {"type": "str"},
            "links": {"type": "dict", "default": {}},
            "progress": {"type": "path"},
            "state": {"type": "str", "choices": list(STATES), "default": "present"},
        },
        required_if=[("state", "present", ["name", "spec"]), ("state", "absent", ["name", "version"])],
        supports_check_mode=True,
    )
    try:
        STATES[module.params["state"]](module, Path(module.params["root"]))
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))


if __name__ == "__main__":
    main()
