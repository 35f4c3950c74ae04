"""What a command of the laboratory does: `client.py DIRECTORY STEP...`, each `ACTION=ARGUMENTS`.

The directory is the laboratory's. For each step one line: the step, a tab, the result. A failed system call is its
errno's name; a failed look-up is getaddrinfo's error.
"""

import errno
import os
import socket
import struct
import subprocess
import sys
import tempfile
import time

# What is cut off without a word is given up after this many seconds.
PATIENCE = 4
LONG_PATIENCE = 60
TYPES = {"A": 1, "TXT": 16, "AAAA": 28}
CODES = {0: "NOERROR", 1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 5: "REFUSED"}
NODE = """
const [url, family, authority] = process.argv.slice(1);
const options = { family: Number(family), ca: require('fs').readFileSync(authority) };
require('https').get(url, options, (answer) => {
  let text = '';
  answer.on('data', (data) => { text += data; });
  answer.on('end', () => console.log(`${answer.statusCode} ${text.trim()}`));
}).on('error', (error) => console.log(error.code));
"""


def authority():
    return f"{sys.argv[1]}/ca.pem"


def fault(error):
    """The name of what went wrong, as the system has it."""
    reason = getattr(error, "reason", error)
    if isinstance(reason, OSError):
        error = reason
    if isinstance(error, socket.gaierror):
        names = {getattr(socket, name): name for name in dir(socket) if name.startswith("EAI_")}
        return names.get(error.errno, str(error))
    if type(error).__module__ == "ssl":
        return type(error).__name__
    if isinstance(error, TimeoutError) and error.errno is None:
        return "timeout"
    return errno.errorcode.get(error.errno, type(error).__name__)


def target(text):
    """`ADDRESS:PORT`, `[ADDRESS]:PORT`."""
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def connected(text):
    host, port = target(text)
    return socket.create_connection((host, port), PATIENCE)


def tcp(argument):
    connected(argument).close()
    return "ok"


def listen(argument):
    """An own server, and a connection to it."""
    host, port = target(argument)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family) as server, connected(argument) as client:
        accepted, _ = server.accept()
        with accepted:
            accepted.sendall(b"own")
            return client.recv(3).decode()


def pretend(argument):
    """`ADDRESS:PORT,everywhere`, `ADDRESS:PORT,there`: a connection to where a socket of this machine only seems to be.

    It is bound to every address, or to that one, which the machine does not have (IP_FREEBIND).
    """
    where, how = argument.split(",")
    host, port = target(where)
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as server:
        server.setsockopt(socket.SOL_IP, 15, 1)
        server.bind((host if how == "there" else "0.0.0.0", port))
        server.listen()
        return tcp(where)


def take(argument):
    """Somebody who takes datagrams there."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(target(argument))
        return "ok"


def exchange(connection, host, path):
    connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    data = b""
    while more := connection.recv(4096):
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    return f"{head.split()[1].decode()} {body.decode().strip()}" if body else "nothing"


def tls(argument):
    """`ADDRESS:PORT,SNI[,HOST]`; no server name with `-`. Says who answered, not whether the certificate fits."""
    import ssl

    where, name, *host = argument.split(",")
    context = ssl.create_default_context(cafile=authority())
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with connected(where) as plain:
        with context.wrap_socket(plain, server_hostname=None if name == "-" else name) as secure:
            return exchange(secure, host[0] if host else name, "/tls")


def http(argument):
    """`ADDRESS:PORT,HOST`."""
    where, host = argument.split(",")
    with connected(where) as connection:
        return exchange(connection, host, "/http")


def http_behind(argument):
    """The same behind white space, which this server leaves out."""
    where, host = argument.split(",")
    with connected(where) as connection:
        connection.sendall(b" ")
        return exchange(connection, host, "/behind")


def routed(argument):
    """`ADDRESS,PORT,HOP`: a datagram by way of another address (RFC 8754; an ordinary user may set it)."""
    address, port, hop = argument.split(",")
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        header = bytes([0, 2, 4, 0, 0, 0, 0, 0]) + socket.inet_pton(socket.AF_INET6, hop)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RTHDR, header)
        sender.sendto(b"routed", (address, int(port)))
    return "sent"


def get(url):
    import ssl
    import urllib.request

    context = ssl.create_default_context(cafile=authority())
    try:
        with urllib.request.urlopen(url, timeout=PATIENCE, context=context) as answer:
            return f"{answer.status} {answer.read().decode().strip()}"
    except urllib.error.HTTPError as answer:
        return str(answer.code)


def resolve(name):
    found = {entry[4][0] for entry in socket.getaddrinfo(name, 443, proto=socket.IPPROTO_TCP)}
    return ",".join(sorted(found)) if len(found) < 10 else f"{len(found)} addresses"


def labels(name):
    """The name as it is sent; `\\DDD` is a byte."""
    data = b""
    for label in name.rstrip(".").split("."):
        first, *escaped = label.split("\\")
        label = first.encode() + b"".join(bytes([int(part[:3])]) + part[3:].encode() for part in escaped)
        data += bytes([len(label)]) + label
    return data + b"\0"


def question(number, name, kind, edns=0):
    data = struct.pack("!HHHHHH", number, 0x0100, 1, 0, 0, 1 if edns else 0)
    data += labels(name) + struct.pack("!HH", TYPES[kind], 1)
    return data + struct.pack("!BHHIH", 0, 41, edns, 0, 0) if edns else data


def skip_name(data, at):
    while data[at] and data[at] < 0xC0:
        at += 1 + data[at]
    return at + (2 if data[at] else 1)


def read_answer(data):
    """The code, and TC or the addresses, or how many there are."""
    _, flags, questions, answers = struct.unpack_from("!HHHH", data)
    at = 12
    for _ in range(questions):
        at = skip_name(data, at) + 4
    found = []
    for _ in range(answers):
        at = skip_name(data, at)
        kind, _, _, size = struct.unpack_from("!HHIH", data, at)
        value = data[at + 10 : at + 10 + size]
        if kind == TYPES["A"]:
            found.append(socket.inet_ntoa(value))
        elif kind == TYPES["AAAA"]:
            found.append(socket.inet_ntop(socket.AF_INET6, value))
        elif kind == TYPES["TXT"]:
            found.append(f"text of {size}")
        at += 10 + size
    words = [CODES.get(flags & 15, str(flags & 15))]
    if flags & 0x0200:
        words.append("TC")
    elif found:
        words.append(",".join(sorted(found)) if len(found) < 10 else f"{len(found)} addresses")
    return " ".join(words)


def ask(argument):
    """`SERVER,NAME,TYPE[,tcp][,edns]`: over a connected socket."""
    server, name, kind, *how = argument.split(",")
    packet = question(4711, name, kind, 1232 if "edns" in how else 0)
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    stream = "tcp" in how
    with socket.socket(family, socket.SOCK_STREAM if stream else socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE)
        asker.connect((server, 53))
        if not stream:
            asker.send(packet)
            return read_answer(asker.recv(65535))
        asker.sendall(struct.pack("!H", len(packet)) + packet)
        size = struct.unpack("!H", asker.recv(2, socket.MSG_WAITALL))[0]
        return read_answer(asker.recv(size, socket.MSG_WAITALL))


def pair(argument):
    """`SERVER,NAME`: both types at once from one socket that is not connected, as musl's resolver asks, which takes
    answers only from where it asked."""
    server, name = argument.split(",")
    answers = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(PATIENCE)
        for number, kind in ((1, "A"), (2, "AAAA")):
            asker.sendto(question(number, name, kind), (server, 53))
        while len(answers) < 2:
            data, _, _, peer = asker.recvmsg(4096)
            if peer != (server, 53):
                return f"an answer from {peer}"
            answers[struct.unpack_from("!H", data)[0]] = read_answer(data)
    return "; ".join(answers[number] for number in sorted(answers))


def peer(server):
    """Whom a connected socket is connected to, as programs check it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.connect((server, 53))
        return "{}:{}".format(*asker.getpeername())


def forge(argument):
    """`NAME,ADDRESS`: an answer that a process of the run makes itself, read by another socket of the run."""
    name, address = argument.split(",")
    asked = question(7, name, "A")
    answer = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + asked[12:]
    answer += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 3600, 4) + socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.settimeout(PATIENCE)
            asker.bind(("127.0.0.1", 0))
            asker.sendto(asked, server.getsockname())
            _, back = server.recvfrom(4096)
            server.sendto(answer, back)
            return read_answer(asker.recv(4096))


def datagrams(address):
    """An own server, and a client of it as they usually are: connected, and bound to whatever the kernel chose."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, 0))
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.connect(server.getsockname())
            client.send(b"a question")
            _, back = server.recvfrom(100)
            server.sendto(b"own", back)
            return client.recv(100).decode()


def forge_to(argument):
    """`SERVER,NAME,ADDRESS`: the same answer, sent to the resolver, which has not asked."""
    server, name, address = argument.split(",")
    asked = question(7, name, "A")
    answer = asked[:2] + struct.pack("!HHHHH", 0x8180, 1, 1, 0, 0) + asked[12:]
    answer += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 3600, 4) + socket.inet_aton(address)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.sendto(answer, (server, 53))
    return "sent"


def program(*command):
    """Exit status and output of a program."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=LONG_PATIENCE)
    if done.returncode != 0:
        sys.stderr.write(done.stderr)
    return f"{done.returncode} {done.stdout.strip()}".strip()


def curl(argument):
    """`-4` or `-6`, and a URL."""
    return program("curl", "-sS", "--max-time", "10", "--cacert", authority(), *argument.split())


def git(argument):
    """`-4` or `-6`, and a URL to clone."""
    family, url = argument.split()
    where = tempfile.mkdtemp(prefix="clone-", dir=sys.argv[1])
    # Whatever the machine's or a person's configuration says; without a name, git asks for that of the machine.
    os.environ.update(GIT_SSL_CAINFO=authority(), GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null")
    os.environ.update(GIT_COMMITTER_NAME="lab", GIT_COMMITTER_EMAIL="lab@lab.test")
    result = program("git", "clone", "-q", family, url, where)
    return f"{result} {open(where + '/README').read().strip()}" if result == "0" else result


def node(argument):
    """`4` or `6`, and a URL."""
    family, url = argument.split()
    return program("node", "-e", NODE, url, family, authority())


def mark(name):
    """Says that this point is reached."""
    open(f"{sys.argv[1]}/{name}", "w").close()
    return "ok"


def wait(name):
    """Goes on when it is told to."""
    deadline = time.monotonic() + LONG_PATIENCE
    while not os.path.exists(f"{sys.argv[1]}/{name}"):
        if time.monotonic() > deadline:
            return "timeout"
        time.sleep(0.01)
    return "ok"


def sleep(seconds):
    time.sleep(float(seconds))
    return "ok"


ACTIONS = {
    action.__name__: action
    for action in (
        *(tcp, listen, pretend, take, tls, http, http_behind, routed, get, resolve, ask, pair, peer),
        *(forge, forge_to, datagrams, curl, git, node, mark),
    )
}
ACTIONS.update({"wait": wait, "sleep": sleep})


def main():
    for step in sys.argv[2:]:
        action, _, argument = step.partition("=")
        if action in ("npm", "pip", "cargo"):
            import packages

            ACTIONS[action] = getattr(packages, action)
        try:
            result = ACTIONS[action](argument)
        except OSError as error:
            result = fault(error)
        print(f"{step}\t{result}", flush=True)


main()
