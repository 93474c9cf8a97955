"""The site of nginx in front of the detection service, as text. Pure. Runs on the target: Python 3.6, standard library.

Only directives that nginx 1.14 (Ubuntu 18.04) knows. A body is read whole before the service hears of it, so that a
slow sender costs the service nothing; what is too large for memory lies in /run. Answers are neither compressed nor cut
into chunks, which clients of DeepStack's protocol cannot read. No query string is logged.
"""

import ipaddress
import re
from typing import NamedTuple, Tuple

from ...errors import UsageError
from .places import BODIES, LOG, SOCKET_FILE

HEAD = "# Written by gpuhost, role detection_service. It is written again by the next run.\n"

_SITE = """\
limit_req_zone $binary_remote_addr zone=gpuhost_requests:2m rate={rate}r/s;
limit_conn_zone $binary_remote_addr zone=gpuhost_address:2m;
limit_conn_zone $server_port zone=gpuhost_all:64k;
log_format gpuhost escape=json
    '{{"time":"$time_iso8601","id":"$request_id","address":"$remote_addr","method":"$request_method","path":"$uri",'
    '"status":$status,"bytes":$request_length,"sent":$bytes_sent,"seconds":$request_time}}';

upstream gpuhost_detect {{
    server unix:{socket} max_fails=0;
}}

server {{
    listen {listen}{tls_word};
    server_name _;
    server_tokens off;
{tls}    access_log {log} gpuhost;

    client_max_body_size {body};
    client_body_buffer_size 2m;
    client_body_temp_path {bodies};
    client_body_timeout 10s;
    client_header_timeout 10s;
    send_timeout 30s;
    keepalive_timeout 30s;
    large_client_header_buffers 4 8k;
    gzip off;
    limit_conn gpuhost_address {connections};
    limit_conn gpuhost_all 64;
    limit_conn_status 429;
    limit_req zone=gpuhost_requests burst={burst} nodelay;
    limit_req_status 429;

    default_type application/json;
    error_page 413 @too_large;
    error_page 429 @too_many;
    # "=": the status is that of the answer below.
    error_page 502 504 = @not_there;

    location / {{
        proxy_pass http://gpuhost_detect;
    }}
    # Each picture of a motion event is a request of its own, and all of an event come at once.
    location /hooks/ {{
        limit_conn gpuhost_address {storm};
        limit_conn gpuhost_all 128;
        limit_req zone=gpuhost_requests burst={storm} nodelay;
        proxy_pass http://gpuhost_detect;
    }}
    location @too_large {{
        return 413 '{{"success":false,"error":"the request is larger than {body_words}"}}';
    }}
    location @too_many {{
        add_header Retry-After 1 always;
        return 429 '{{"success":false,"error":"too many requests from this address"}}';
    }}
    location @not_there {{
        add_header Retry-After 2 always;
        return 503 '{{"success":false,"error":"the detection service does not answer"}}';
    }}

    proxy_http_version 1.1;
    proxy_set_header Host gpuhost;
    proxy_set_header Connection "";
    proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_connect_timeout {wait_s}s;
    proxy_send_timeout {wait_s}s;
    proxy_read_timeout {wait_s}s;
    proxy_next_upstream off;
    proxy_max_temp_file_size 0;
}}
"""
_TLS = """\
    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_tickets off;
"""
_CLIENTS = """\
    ssl_client_certificate {clients};
    ssl_verify_client on;
"""
_LISTEN = re.compile(r"(\[[0-9a-fA-F:.]+\]|[0-9.]+):([0-9]{1,5})")
#: Pictures of one device that may come at once.
_STORM = 100
#: While the service is restarted a request waits in the socket's queue, beside its own deadline.
START_S = 60


class Front(NamedTuple):
    """What the site's configuration says: where to listen, the limits, and the files of TLS ("" for none)."""

    listen: str
    body_bytes: int
    deadline_s: int
    rate: int
    connections: int
    certificate: str = ""
    key: str = ""
    clients: str = ""


def address(listen: str) -> Tuple[str, int]:
    """Return the address and the port of `service_listen`, such as 127.0.0.1:8420 or [::1]:8420."""
    found = _LISTEN.fullmatch(listen)
    step = "Write an address of this host and a port, such as 127.0.0.1:8420, 0.0.0.0:8420 or [::1]:8420."
    if found is None or not 0 < int(found.group(2)) < 65536:
        raise UsageError(f"service_listen '{listen}' is not understood.", step)
    try:
        return str(ipaddress.ip_address(found.group(1).strip("[]"))), int(found.group(2))
    except ValueError:
        raise UsageError(f"service_listen '{listen}' is not understood.", step) from None


def text(front: Front) -> str:
    """Return the site."""
    address(front.listen)
    tls = _TLS.format(certificate=front.certificate, key=front.key) if front.certificate else ""
    tls += _CLIENTS.format(clients=front.clients) if front.clients else ""
    megabytes = front.body_bytes / (1 << 20)
    return HEAD + _SITE.format(
        rate=front.rate,
        burst=2 * front.rate,
        connections=front.connections,
        storm=max(_STORM, 2 * front.rate),
        socket=SOCKET_FILE,
        listen=front.listen,
        tls_word=" ssl" if front.certificate else "",
        tls=tls,
        log=LOG,
        body=front.body_bytes,
        body_words=f"{megabytes:g} MiB",
        bodies=BODIES,
        wait_s=front.deadline_s + START_S,
    )
