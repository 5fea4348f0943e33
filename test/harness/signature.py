"""Standard Webhooks, written anew: what the daemon signs and the services verify is held against it."""

import base64
import hashlib
import hmac
import time


def key_of(secret):
    if secret.startswith("whsec_"):
        return base64.b64decode(secret[6:], validate=True)
    return secret.encode()


def signature(secret, call_id, timestamp, body):
    text = ("%s.%s." % (call_id, timestamp)).encode() + body
    mac = hmac.new(key_of(secret), text, hashlib.sha256).digest()
    return "v1," + base64.b64encode(mac).decode()


MODES = {"tcc": ("try", "confirm", "cancel"), "saga": ("action", "compensate"),
         "3pc": ("can_commit", "pre_commit", "do_commit", "abort")}


def call_headers(gid, op, attempt=1, branch="stock", cluster="c0ffee00", namespace="default"):
    return {"Assent-Cluster": cluster, "Assent-Namespace": namespace, "Assent-Gid": gid,
            "Assent-Branch": branch, "Assent-Op": op,
            "Assent-Mode": next((m for m, ops in MODES.items() if op in ops), "2pc"),
            "Assent-Attempt": str(attempt), "Assent-Timeout-Ms": "5000"}


def signed(headers, secret, body, age_s=0, call_id=None):
    """These headers and the signature over them."""
    call_id = call_id or "/".join(headers["Assent-" + n] for n in (
        "Cluster", "Gid", "Branch", "Op", "Attempt"))
    now = str(int(time.time()) - age_s)
    return dict(headers, **{"webhook-id": call_id, "webhook-timestamp": now,
                            "webhook-signature": signature(secret, call_id, now, body)})
