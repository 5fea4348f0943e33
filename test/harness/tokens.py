"""A token_file and the tokens whose hashes stand in it."""

import hashlib
import os
import secrets

ROLES = ("submit", "participant", "viewer", "operator", "admin")


def token_line(token, name, roles, namespace=None):
    words = [name, roles] + (["namespace=" + namespace] if namespace else [])
    return " ".join(words + [hashlib.sha256(token.encode()).hexdigest()])


def write_secret(path, text, mode=0o600):
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w",
              encoding="utf-8") as f:
        f.write(text)
    os.chmod(path, mode)
    return path


class Tokens:
    """One token for each role, by its name, and whatever is added."""

    def __init__(self, path):
        self.path = path
        self.token = {}
        self.lines = ["# name role[,role] [namespace=NAME] hash", ""]
        for role in ROLES:
            self.add(role, role)

    def add(self, name, roles, namespace=None):
        self.token[name] = secrets.token_hex(20)
        self.lines.append(token_line(self.token[name], name, roles, namespace))
        write_secret(self.path, "\n".join(self.lines) + "\n")
        return self.token[name]
