#!/usr/bin/python
"""Bring one file by its sha256 into the cache of a host."""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.gpuhost.errors import GpuhostError
from ansible.module_utils.gpuhost.host import download as artifacts
from ansible.module_utils.gpuhost.host import https, progress, store

DOCUMENTATION = r"""
module: gpuhost_artifact
short_description: Bring one file by its sha256 into the cache
description:
  - Makes C(<root>/cache/artifacts/<sha256>/<name>), unless it is there with the right checksum.
  - The action plugin of the same name tells how far it is, and can fetch on the controller and send the file.
options:
  root: {description: The folder of the store., type: path, default: /opt/gpuhost}
  file: {description: 'C(name), C(url), C(sha256) and, where it is known, C(size).', type: dict, required: true}
  source: {description: A file on the host to take it from., type: path}
  mirror_url:
    description: Where to fetch it instead of its own address; the layout is C(<mirror>/<sha256>/<name>).
    type: str
    default: ''
  progress: {description: The file in which each step is left while the work goes on., type: path}
author: gpuhost
"""

RETURN = r"""
path: {description: The file's path., type: str, returned: always}
"""


def main():
    """Read the arguments, fetch or say what would be fetched."""
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "default": "/opt/gpuhost"},
            "file": {"type": "dict", "required": True},
            "source": {"type": "path"},
            "mirror_url": {"type": "str", "default": ""},
            "progress": {"type": "path"},
        },
        supports_check_mode=True,
    )
    root, file, source = Path(module.params["root"]), module.params["file"], module.params["source"]
    cache = root / "cache" / "artifacts"
    try:
        artifacts.check_file(file)
        path, mirror = artifacts.place(cache, file), module.params["mirror_url"]
        if module.check_mode:
            there = artifacts.is_right(path, file)
            after = "{} sha256:{}\n".format(https.shown(artifacts.mirrored(file, mirror)), file["sha256"])
            diff = {"before": after if there else "", "after": after, "after_header": str(path)}
            module.exit_json(changed=not there, path=str(path), diff=diff)
        if artifacts.is_right(path, file):
            module.exit_json(changed=False, path=str(path))
        # With a source the controller waits for this answer, and nobody would see what is reported meanwhile.
        what, told = "fetching {}".format(file["name"]), progress.told(module.params["progress"])
        with told as say, store.changing(root, what, None if source else say):
            changed = artifacts.obtain(cache, file, mirror, Path(source) if source else None, say)
    except GpuhostError as error:
        module.fail_json(msg=str(error), exit_code=error.exit_code, busy=getattr(error, "holder", ""))
    module.exit_json(changed=changed, path=str(path))


if __name__ == "__main__":
    main()
