"""The laboratory's network, and the servers in it.

    lab.py private|machine REGISTRIES

makes a network namespace for the servers and a veth pair to the place where commands run: with `private`, a network
namespace and a mount namespace of their own, with their own /etc/resolv.conf and /etc/hosts; with `machine`, where
this process was started, whose /etc it then writes to. REGISTRIES is the text of `registries.py`. One JSON object a
line on stdout: first what there is, then one for each command that is read from stdin:

    settle          what has arrived since the last time, when all that was under way has
    point NAME IP   the name has this address from now on

It ends when stdin does; namespaces and files end with it.
"""

import ctypes
import json
import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import types

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PR_SET_PDEATHSIG = 1

# No client needs longer, on the slowest machine; what is cut off on its way is given up then.
PATIENCE = 5
START_PATIENCE = 60

registries = types.ModuleType("registries")
exec(sys.argv[2], registries.__dict__)

RESOLVER, RESOLVER6 = "203.0.113.53", "2001:db8:113::53"
ROGUE = "203.0.113.54"
RUN, RUN6 = "203.0.113.1", "2001:db8:113::1"
LAB_ADDRESSES = [
    RESOLVER + "/24",
    ROGUE + "/24",
    *(f"203.0.113.{last}/24" for last in (80, 81, 82, 83, 84, 85, 86, 87, 90)),
    *(f"{address}/24" for address in registries.NAMES.values()),
    "169.254.169.254/32",
    "10.113.0.5/32",
    RESOLVER6 + "/64",
    *(f"2001:db8:113::{last}/64" for last in (80, 85, 90)),
]
# A name with a hundred addresses.
MANY = [f"203.0.113.{last}" for last in range(128, 228)]

# name, addresses, time to live
HOSTS = [
    ("good.lab.test", ["203.0.113.80", "2001:db8:113::80"], 60),
    ("other.lab.test", ["203.0.113.80", "2001:db8:113::80"], 60),
    ("denied.lab.test", ["203.0.113.84"], 60),
    ("code.git.lab.test", ["203.0.113.90", "2001:db8:113::90"], 60),
    ("v4.git.lab.test", ["203.0.113.85"], 60),
    ("v6.git.lab.test", ["2001:db8:113::85"], 60),
    ("short.git.lab.test", ["203.0.113.81"], 1),
    # Names that lead elsewhere than to their owner.
    ("loop.git.lab.test", ["127.0.0.1"], 60),
    ("loop6.git.lab.test", ["::1"], 60),
    ("mapped.git.lab.test", ["::ffff:127.0.0.1"], 60),
    ("metadata.git.lab.test", ["169.254.169.254"], 60),
    ("machine.git.lab.test", [RUN], 60),
    ("mixed.git.lab.test", ["127.0.0.1", "203.0.113.87"], 60),
    # A private network is where names of a company's own lead.
    ("private.git.lab.test", ["10.113.0.5"], 60),
    *(("many.git.lab.test", [address], 60) for address in MANY),
    *((name, [address], 60) for name, address in registries.NAMES.items()),
]
ALIASES = [("alias.git.lab.test", "step.lab.test"), ("step.lab.test", "good.lab.test")]
TEXT = ("text.git.lab.test", ["x" * 250] * 3)
# What /etc/hosts has where commands run.
MACHINE_HOSTS = "127.0.0.1 localhost\n::1 localhost\n203.0.113.83 listed.git.lab.test\n203.0.113.86 kept.lab.test\n"

CERTIFICATES = {
    "web": ["good.lab.test", "*.git.lab.test"],
    "other": ["other.lab.test", "denied.lab.test", "kept.lab.test"],
    "registries": [*registries.NAMES],
}


def check(result):
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def unshare(flags):
    check(LIBC.unshare(flags))


def mount(source, target, flags):
    check(LIBC.mount(source.encode(), target.encode(), None, ctypes.c_ulong(flags), None))


def run(*command, namespace=None, text=None):
    """Runs a program, in a network namespace that an open descriptor names."""
    enter = (lambda: check(LIBC.setns(namespace, CLONE_NEWNET))) if namespace is not None else None
    done = subprocess.run(command, preexec_fn=enter, input=text, text=True, capture_output=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: {done.returncode} {done.stdout}{done.stderr}{text or ''}")


def configure(namespace):
    """The link, and the addresses at both ends; this process is in the laboratory's namespace."""
    lines = [
        "link set lo up",
        f"link add lab0 type veth peer name run0 netns /proc/{os.getpid()}/fd/{namespace}",
        "link set lab0 up",
        *(f"addr add {address} dev lab0{' nodad' if ':' in address else ''}" for address in LAB_ADDRESSES),
        "route add local 203.0.113.128/25 dev lo",
    ]
    run("ip", "-batch", "-", text="\n".join(lines))
    lines = [
        "link set lo up",
        f"addr add {RUN}/24 dev run0",
        f"addr add {RUN6}/64 dev run0 nodad",
        "link set run0 up",
        f"route add default via {RESOLVER}",
        f"route add ::/0 via {RESOLVER6}",
    ]
    run("ip", "-batch", "-", namespace=namespace, text="\n".join(lines))


def write(path, text, mode=0o644):
    with open(path, "w") as file:
        file.write(text)
    os.chmod(path, mode)


def certify(directory):
    """An authority, and a certificate of each server."""
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    config = f"{directory}/openssl.cnf"
    write(config, "[req]\ndistinguished_name = name\nprompt = no\n[name]\nCN = laboratory\n")
    new += ["-config", config, "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
    authority = ["-keyout", f"{directory}/ca.key", "-out", f"{directory}/ca.pem"]
    run(*new, "-addext", "basicConstraints=critical,CA:TRUE", *authority)
    for server, names in CERTIFICATES.items():
        alternatives = ",".join(f"DNS:{name}" for name in names)
        signed = ["-CA", f"{directory}/ca.pem", "-CAkey", f"{directory}/ca.key", "-subj", f"/CN={names[0]}"]
        signed += ["-keyout", f"{directory}/{server}.key", "-out", f"{directory}/{server}.pem"]
        run(*new, "-addext", f"subjectAltName={alternatives}", "-addext", "basicConstraints=CA:FALSE", *signed)


def make_repository(directory):
    """A repository that a plain web server can serve: gitprotocol-http(5), "dumb clients"."""
    work = f"{directory}/repository"
    os.environ.update(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL="/dev/null")
    git = ["git", "-C", work, "-c", "user.name=lab", "-c", "user.email=lab@lab.test", "-c", "core.hooksPath=/dev/null"]
    run("git", "init", "-q", "-b", "main", work)
    write(f"{work}/README", "a repository\n")
    run(*git, "add", "README")
    run(*git, "commit", "-q", "-m", "first")
    run(*git, "update-server-info")
    return f"{work}/.git"


class Arrivals:
    """What the servers got, as lines of text; and who asks only to know that nothing else is on its way."""

    def __init__(self):
        self.lock = threading.Condition()
        self.lines = []
        self.marks = set()
        self.open = 0

    def tell(self, line):
        with self.lock:
            self.lines.append(line)

    def take(self):
        with self.lock:
            lines, self.lines = self.lines, []
            return lines

    def expect(self, mark):
        with self.lock:
            self.marks.add(mark)

    def is_mark(self, mark):
        with self.lock:
            if mark not in self.marks:
                return False
            self.marks.remove(mark)
            self.lock.notify_all()
            return True

    def change_open(self, by):
        with self.lock:
            self.open += by
            self.lock.notify_all()

    def until_settled(self, deadline):
        with self.lock:
            settled = lambda: not self.marks and self.open == 0
            if not self.lock.wait_for(settled, max(0, deadline - time.monotonic())):
                raise SystemExit(f"servers did not settle: {self.marks} {self.open}")


def canonical(address):
    return address.removeprefix("::ffff:")


def place(address):
    host, port = canonical(address[0]), address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(port):
    """On every address of both families, in the namespace of the moment."""
    listener = socket.socket(socket.AF_INET6)
    listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("::", port))
    listener.listen(64)
    return listener


class Server:
    """Accepts, tells, and serves each connection in a thread of its own."""

    def __init__(self, arrivals, kind, listener, serve):
        self.arrivals, self.kind, self.listener, self.serve = arrivals, kind, listener, serve
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            connection, peer = self.listener.accept()
            if self.arrivals.is_mark((canonical(peer[0]), peer[1])):
                connection.close()
                continue
            local = connection.getsockname()
            self.arrivals.tell(f"{self.kind} accept {place(local)}")
            self.arrivals.change_open(1)
            threading.Thread(target=self.handle, args=(connection, local), daemon=True).start()

    def handle(self, connection, local):
        try:
            connection.settimeout(PATIENCE)
            self.serve(self, connection, local)
        except OSError as error:
            self.arrivals.tell(f"{self.kind} broken {place(local)} {type(error).__name__}")
        finally:
            connection.close()
            self.arrivals.change_open(-1)


def greet(_server, connection, _local):
    connection.sendall(b"ready\n")


def web(server, connection, local):
    """One request, answered with a file of the repository, or with whom was asked for, and where."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65536)
        if not more:
            return
        data += more
    head, _, sent = data.partition(b"\r\n\r\n")
    head = head.decode("latin-1").split("\r\n")
    path = head[0].split(" ")[1].split("?")[0]
    fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    host = fields.get("host", "-")
    # What is not read would make the end of the connection a reset.
    while len(sent) < int(fields.get("content-length", 0)):
        sent += connection.recv(65536) or bytes(65536)
    server.arrivals.tell(f"{server.kind} request {host} {path} {place(local)}")
    status, kind, body = "200 OK", "text/plain", f"{host} {canonical(local[0])}\n".encode()
    if path.startswith("/r.git/"):
        try:
            with open(server.repository + path.removeprefix("/r.git"), "rb") as file:
                body = file.read()
        except OSError:
            status, body = "404 Not Found", b""
    elif host in registries.NAMES:
        status, kind, body = registries.answer(host, path)
    answer = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n"
    connection.sendall(answer.encode() + body)


def secure_web(directory):
    def context(name):
        made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        made.load_cert_chain(f"{directory}/{name}.pem", f"{directory}/{name}.key")
        return made

    def serve(server, connection, local):
        def named(secure, name, _context):
            server.arrivals.tell(f"tls hello {name or '-'} {place(local)}")
            fitting = (server for server, names in CERTIFICATES.items() if name in names)
            secure.context = contexts.get(next(fitting, "web"))

        first = contexts["web"]
        first.sni_callback = named
        with first.wrap_socket(connection, server_side=True) as secure:
            web(server, secure, local)

    contexts = {name: context(name) for name in CERTIFICATES}
    return serve


def question_of(packet):
    """Name, type and the question's bytes."""
    labels, at = [], 12
    while packet[at]:
        labels.append(packet[at + 1 : at + 1 + packet[at]].decode("latin-1"))
        at += 1 + packet[at]
    return ".".join(labels), struct.unpack_from("!H", packet, at + 1)[0], packet[12 : at + 5]


def rogue_answer(arrivals, packet):
    """Whatever the name, its address is the web server's."""
    name, kind, question = question_of(packet)
    arrivals.tell(f"rogue question {name}")
    address = {1: socket.inet_aton("203.0.113.80")}.get(kind)
    head = packet[:2] + struct.pack("!HHHHH", 0x8180, 1, 1 if address else 0, 0, 0)
    record = b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(address)) + address if address else b""
    return head + question + record


def rogue_datagrams(arrivals, server):
    while True:
        packet, peer = server.recvfrom(4096)
        if arrivals.is_mark(peer):
            continue
        try:
            server.sendto(rogue_answer(arrivals, packet), peer)
        except (IndexError, struct.error):
            arrivals.tell("rogue junk")


def rogue_connection(server, connection, _local):
    size = struct.unpack("!H", connection.recv(2, socket.MSG_WAITALL))[0]
    answer = rogue_answer(server.arrivals, connection.recv(size, socket.MSG_WAITALL))
    connection.sendall(struct.pack("!H", len(answer)) + answer)


class Resolver:
    """dnsmasq with a table, part of which can be changed."""

    def __init__(self, directory):
        self.table, self.log, self.read = f"{directory}/table", f"{directory}/dnsmasq.log", 0
        self.number = 0
        self.changeable = {"moving.git.lab.test": "203.0.113.81"}
        self.write()
        write(self.log, "")
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--group=root"]
        command += ["--pid-file=", "--no-resolv", "--no-hosts", "--no-poll", "--local=/test/", "--local-ttl=1"]
        command += [f"--addn-hosts={self.table}", "--log-queries", f"--log-facility={self.log}", "--bind-interfaces"]
        command += [f"--listen-address={address}" for address in (RESOLVER, RESOLVER6)]
        command += [f"--host-record={name},{','.join(addresses)},{ttl}" for name, addresses, ttl in plain_hosts()]
        command += [f"--cname={name},{target},60" for name, target in ALIASES]
        command += [f"--txt-record={TEXT[0]},{','.join(TEXT[1])}"]
        die = lambda: LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        self.child = subprocess.Popen(command, preexec_fn=die, stdin=subprocess.DEVNULL)
        self.until(lambda: self.ask("good.lab.test") == ["203.0.113.80"], START_PATIENCE)

    def write(self):
        write(self.table, "".join(f"{address} {name}\n" for name, address in self.changeable.items()))

    def until(self, holds, patience):
        deadline = time.monotonic() + patience
        while not holds():
            if self.child.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"dnsmasq {self.child.poll()}: {open(self.log).read()}")
            time.sleep(0.01)

    def ask(self, name):
        """The name's IPv4 addresses."""
        self.number = (self.number + 1) % 65536
        question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
            asker.connect((RESOLVER, 53))
            asker.settimeout(1)
            try:
                asker.send(struct.pack("!HHHHHH", self.number, 0x0100, 1, 0, 0, 0) + question)
                answer = asker.recv(4096)
            except (ConnectionRefusedError, TimeoutError):
                return None
        count, at, addresses = struct.unpack_from("!H", answer, 6)[0], 12 + len(question), []
        for _ in range(count):
            kind, _, _, size = struct.unpack_from("!HHIH", answer, at + 2)
            if kind == 1:
                addresses.append(socket.inet_ntoa(answer[at + 12 : at + 16]))
            at += 12 + size
        return addresses

    def point(self, name, address):
        self.changeable[name] = address
        self.write()
        self.child.send_signal(signal.SIGHUP)
        self.until(lambda: self.ask(name) == [address], PATIENCE)

    def arrived(self):
        """Questions from elsewhere since the last time."""
        self.until(lambda: self.ask("settle.lab.test") is not None, PATIENCE)
        with open(self.log, encoding="latin-1") as file:
            file.seek(self.read)
            lines, self.read = file.read().splitlines(), file.tell()
        words = (line.partition(": query[")[2].split() for line in lines)
        questions = (words for words in words if len(words) >= 4 and words[3] not in (RESOLVER, RESOLVER6))
        return [f"resolver {words[0].rstrip(']')} {words[1]}" for words in questions]


def plain_hosts():
    """`HOSTS` as host-record takes them: at most one address of each family at a time."""
    for name, addresses, ttl in HOSTS:
        if len({":" in address for address in addresses}) == len(addresses):
            yield name, addresses, ttl
        else:
            yield from ((name, [address], ttl) for address in addresses)


def settle(arrivals, resolver, listeners):
    """Returns when all that was sent before has been told: servers take what comes in turn, and the last is ours."""
    deadline = time.monotonic() + 4 * PATIENCE
    for host, port in listeners:
        with socket.socket(socket.AF_INET) as mark:
            mark.bind(("203.0.113.53", 0))
            arrivals.expect(mark.getsockname())
            mark.settimeout(PATIENCE)
            mark.connect((host, port))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as mark:
        mark.bind((RESOLVER, 0))
        arrivals.expect(mark.getsockname())
        mark.sendto(b"mark", (ROGUE, 53))
        arrivals.until_settled(deadline)
    return arrivals.take() + resolver.arrived()


def start_servers(directory, arrivals, database):
    secure = secure_web(directory)
    servers = [
        Server(arrivals, "tls", listen(443), secure),
        Server(arrivals, "tls", listen(8443), secure),
        Server(arrivals, "http", listen(80), web),
        Server(arrivals, "dot", listen(853), greet),
        Server(arrivals, "database", database, greet),
    ]
    for server in servers:
        server.repository = f"{directory}/repository/.git"
    rogue = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    rogue.bind((ROGUE, 53))
    threading.Thread(target=rogue_datagrams, args=(arrivals, rogue), daemon=True).start()
    rogue_tcp = socket.create_server((ROGUE, 53))
    Server(arrivals, "rogue", rogue_tcp, rogue_connection)
    web_address = "203.0.113.80"
    listeners = [(web_address, port) for port in (443, 8443, 80, 853)]
    return listeners + [(RUN, database.getsockname()[1]), (ROGUE, 53)]


def serve(directory, private):
    write(f"{directory}/resolv.conf", f"nameserver {RESOLVER}\noptions timeout:3 attempts:2\n")
    write(f"{directory}/hosts", MACHINE_HOSTS)
    descriptors = {}
    if private:
        unshare(CLONE_NEWNS | CLONE_NEWNET)
        mount("none", "/", MS_REC | MS_PRIVATE)
        for name in ("resolv.conf", "hosts"):
            mount(f"{directory}/{name}", f"/etc/{name}", MS_BIND)
        descriptors["mount"] = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    else:
        for name in ("resolv.conf", "hosts"):
            shutil.copy(f"{directory}/{name}", f"/etc/{name}")
    descriptors["net"] = os.open("/proc/self/ns/net", os.O_RDONLY)
    # A service of the machine that commands run on: the socket stays in that namespace.
    database = listen(5432)
    unshare(CLONE_NEWNET)
    configure(descriptors["net"])
    certify(directory)
    make_repository(directory)
    resolver = Resolver(directory)
    arrivals = Arrivals()
    try:
        listeners = start_servers(directory, arrivals, database)
        settle(arrivals, resolver, listeners)
        print(json.dumps({"directory": directory, "pid": os.getpid(), **descriptors}), flush=True)
        for line in iter(sys.stdin.readline, ""):
            match line.split():
                case ["settle"]:
                    answer = settle(arrivals, resolver, listeners)
                case ["point", name, address]:
                    answer = resolver.point(name, address)
                case _:
                    raise SystemExit(f"unknown command {line!r}")
            print(json.dumps({"answer": answer}), flush=True)
    finally:
        resolver.child.kill()
        resolver.child.wait()


def main():
    if sys.argv[1] not in ("private", "machine"):
        raise SystemExit(__doc__)
    with tempfile.TemporaryDirectory(prefix="net-lab-", ignore_cleanup_errors=True) as directory:
        os.chmod(directory, 0o755)
        serve(directory, sys.argv[1] == "private")


main()
