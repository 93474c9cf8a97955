"""Where the detection service keeps what on a host. Runs on the target: Python 3.6, standard library."""

#: The user that the service runs as, and its group.
USER = "gpuhost-detect"
#: The group of the proxy, which may use the service's socket. Debian and Ubuntu have it from the start.
PROXY_GROUP = "www-data"

SERVICE, SOCKET, CARD = "gpuhost-detect.service", "gpuhost-detect.socket", "gpuhost-detect-card.service"
#: In /run: made by systemd with the socket.
SOCKET_FILE = "/run/gpuhost-detect/detect.sock"

FOLDER = "/etc/gpuhost/service"
SETTINGS, KEYS, VERIFY_KEY = f"{FOLDER}/settings.json", f"{FOLDER}/keys.json", f"{FOLDER}/verify.key"
#: The service's own: its work, the compiled code of a card, the counts.
STATE = "/var/lib/gpuhost-detect"
#: Own networks; the service reads them and cannot change them.
MODELS = "/var/lib/gpuhost-models"

#: Below the folder of the store.
LINK, LAUNCHER = "current/service", "gpuhost-service.py"
RECORD = "state/service.json"

#: What makes and revokes keys, for whoever may be root.
COMMAND = "/usr/local/sbin/gpuhost-keys"

NGINX, PROGRAM = "/etc/nginx", "/usr/sbin/nginx"
SITE, DEFAULT_SITE = f"{NGINX}/conf.d/gpuhost.conf", f"{NGINX}/sites-enabled/default"
LOG = "/var/log/nginx/gpuhost.log"
#: What does not fit into the proxy's memory lies here: /run is never on a disk.
BODIES = "/run/gpuhost-bodies"
