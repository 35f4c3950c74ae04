//! A run in a network namespace of its own, with the relay as the only way out, against the laboratory's network: what is
//! allowed works by each protocol that clients speak to a proxy, what is not does not, and what does not ask the relay has
//! no network. Each case has its control beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use audit_verify::canonical::{Record, Value};
use net_lab::{Lab, PYTHON, Side};
use sandbox_tests::binaries::binary;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};

/// The policy of most cases.
const POLICY: &str = r#"
version: 1
name: lab
network:
  default: deny
  rules:
    - { name: web, allow: [connect], to: ["good.lab.test:443/tcp", "good.lab.test:80/tcp", "*.git.lab.test"] }
    - { name: inner, deny: [connect], to: ["203.0.113.85"], because: that one is not for us }
    - { name: database, allow: [connect], to: ["localhost:5433"] }
"#;

fn needed(test: &str) -> bool {
    let programs = ["nsenter", PYTHON, "curl", "git", "dnsmasq", "openssl"].map(Need::Program);
    met(test, &[Need::Trace].into_iter().chain(programs).collect::<Vec<_>>())
}

/// A laboratory, and runs in it.
struct Site {
    lab: Lab,
    runs: usize,
}

/// What came of a run.
struct Ran {
    output: Output,
    record: PathBuf,
}

impl Site {
    fn new() -> Site {
        Site { lab: Lab::start(Side::Private).expect("a laboratory"), runs: 0 }
    }

    /// A shell script under a policy, with these options beside it.
    fn run_with(&mut self, policy: &str, options: &[&str], script: &str) -> Ran {
        self.runs += 1;
        let record = self.lab.path(&format!("relay-{}", self.runs));
        let file = self.lab.path("relay.yaml");
        std::fs::write(&file, policy).expect("a policy");
        let mut command = self.lab.command(&binary("sandbox"));
        command.args(["run", "--best-effort", "--require", "netns", "--enforce"]).arg(&file);
        command.args(options).arg("--run-dir").arg(&record).arg("--").args(["/bin/bash", "-c", script]);
        command.env("CA", self.lab.path("ca.pem")).env("LAB", self.lab.path(""));
        let output = command.stdin(Stdio::null()).output().expect("the product");
        Ran { output, record }
    }

    fn run(&mut self, script: &str) -> Ran {
        self.run_with(POLICY, &[], script)
    }

    /// A step of the laboratory's client, as a shell has it.
    fn step(&self, step: &str) -> String {
        format!("{PYTHON} {} {} '{step}'", self.lab.path("client.py").display(), self.lab.path("").display())
    }

    /// The same script without a sandbox.
    fn bare(&self, script: &str) -> String {
        let mut command = self.lab.command("/bin/bash".as_ref());
        command.args(["-c", script]).env("CA", self.lab.path("ca.pem"));
        let output = command.output().expect("a shell");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Ran {
    #[track_caller]
    fn says(&self, expected: &str) -> &Self {
        let (out, err) = (&self.output.stdout, &self.output.stderr);
        let (out, err) = (String::from_utf8_lossy(out), String::from_utf8_lossy(err));
        assert_eq!(out.trim(), expected, "stderr:\n{err}\n{}", self.events().join("\n"));
        self
    }

    /// Network events of the record, a line each: type, action, and these keys.
    fn events(&self) -> Vec<String> {
        const KEYS: [&str; 9] =
            ["layer", "host", "dst_ip", "dst_port", "sni", "policy_rule", "because", "rcode", "ret"];
        let log = Log::of_run(&self.record);
        let network = |record: &Record<'_>| {
            record.text("event_type").is_some_and(|kind| kind.starts_with("net_") || kind.starts_with("dns_"))
        };
        let records = log.records().map(|(_, record)| record).filter(network);
        records
            .map(|record| {
                let mut line = ["event_type", "action"].map(|key| text(&record, key)).join(" ");
                for key in KEYS.iter().filter(|key| record.get(key).is_some()) {
                    line += &format!(" {key}={}", text(&record, key));
                }
                line
            })
            .collect()
    }

    #[track_caller]
    fn tells(&self, event: &str) -> &Self {
        let events = self.events();
        assert!(events.iter().any(|line| line == event), "{event}\n  {}", events.join("\n  "));
        self
    }

    /// Who did what the relay tells of an event.
    fn process_of(&self, kind: &str, key: (&str, &str)) -> Option<String> {
        let log = Log::of_run(&self.record);
        let mut records = log.records().map(|(_, record)| record);
        let found = records.find(|record| {
            text(record, "event_type") == kind
                && text(record, "layer") == "netns"
                && text(record, key.0) == key.1
        });
        found.map(|record| text(&record, "exe"))
    }
}

fn text(record: &Record<'_>, key: &str) -> String {
    match record.get(key) {
        Some(Value::Bytes(bytes)) => String::from_utf8_lossy(bytes).into_owned(),
        Some(Value::Int(number)) => number.to_string(),
        Some(Value::Uint(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// Commands of a shell that print their results one by one, each ended by `;`.
const CURL: &str = "curl -sS -m 20 --cacert $CA";

#[test]
fn an_allowed_name_is_reached_by_each_protocol() {
    if !needed("an_allowed_name_is_reached_by_each_protocol") {
        return;
    }
    let mut site = Site::new();
    let script = format!(
        "{CURL} https://good.lab.test/connect; {CURL} http://good.lab.test/plain; \
         {CURL} --proxy $all_proxy https://good.lab.test/socks; {CURL} -d body=1 http://GOOD.lab.test./post"
    );
    let ran = site.run(&script);
    // Over IPv6 first, as the laboratory's resolver has it.
    let answer = |name: &str| format!("{name} 2001:db8:113::80");
    let expected =
        ["good.lab.test", "good.lab.test", "good.lab.test", "good.lab.test"].map(answer).join("\n");
    ran.says(&expected);
    for event in [
        "net_connect ALLOWED layer=netns host=good.lab.test dst_ip=2001:db8:113::80 dst_port=443 policy_rule=lab/web ret=0",
        "net_connect ALLOWED layer=netns host=good.lab.test dst_ip=2001:db8:113::80 dst_port=80 policy_rule=lab/web ret=0",
        "net_name ALLOWED layer=netns host=good.lab.test dst_ip=2001:db8:113::80 dst_port=443 sni=good.lab.test \
         policy_rule=lab/web",
        "net_name ALLOWED layer=netns host=good.lab.test dst_ip=2001:db8:113::80 dst_port=80 sni=good.lab.test \
         policy_rule=lab/web",
    ] {
        ran.tells(event);
    }
    assert!(ran.process_of("net_connect", ("dst_port", "443")).is_some_and(|exe| exe.ends_with("/curl")));
    let arrived = site.lab.settle().expect("the servers");
    for part in ["tls request good.lab.test /connect", "http request good.lab.test /plain", "/socks", "/post"]
    {
        assert!(arrived.iter().any(|line| line.contains(part)), "{part}\n{}", arrived.join("\n"));
    }
}

#[test]
fn what_is_denied_is_told_how_to_allow_it() {
    if !needed("what_is_denied_is_told_how_to_allow_it") {
        return;
    }
    let mut site = Site::new();
    assert_eq!(site.bare(&format!("{CURL} http://denied.lab.test/x")), "denied.lab.test 203.0.113.84");
    site.lab.settle().expect("the servers");
    let ran = site.run(&format!(
        "{CURL} -w '%{{http_code}}' http://denied.lab.test/x; echo; {CURL} https://denied.lab.test/x; echo $?; \
         {CURL} --proxy $all_proxy http://denied.lab.test/x; echo $?; \
         {CURL} -w ' %{{http_code}}' http://good.lab.test:81/x | tail -1"
    ));
    ran.says(
        "sandbox: rule `lab/network.default` denies connecting to denied.lab.test:80\n\
         to allow it, in the policy:\n  \
         - { name: connect-denied.lab.test, allow: [connect], to: [\"denied.lab.test:80/tcp\"] }  # in network\n403\n\
         56\n97\n 403",
    );
    ran.tells(
        "net_connect BLOCKED layer=netns host=denied.lab.test dst_port=80 policy_rule=lab/network.default",
    )
    .tells(
        "net_connect BLOCKED layer=netns host=denied.lab.test dst_port=443 policy_rule=lab/network.default",
    )
    .tells(
        "net_connect BLOCKED layer=netns host=good.lab.test dst_ip=2001:db8:113::80 dst_port=81 \
             policy_rule=lab/network.default",
    );
    let arrived = site.lab.settle().expect("the servers");
    assert!(!arrived.iter().any(|line| line.contains("denied.lab.test")), "{}", arrived.join("\n"));
}

#[test]
fn another_server_in_the_tunnel_is_cut() {
    if !needed("another_server_in_the_tunnel_is_cut") {
        return;
    }
    let mut site = Site::new();
    let through = "--connect-to other.lab.test:443:good.lab.test:443";
    let plain = "--proxytunnel --connect-to other.lab.test:80:good.lab.test:80";
    assert_eq!(
        site.bare(&format!("{CURL} -4 {through} https://other.lab.test/x")),
        "other.lab.test 203.0.113.80",
        "the control"
    );
    site.lab.settle().expect("the servers");
    let ran = site.run(&format!(
        "{CURL} {through} https://other.lab.test/x; [ $? -eq 35 -o $? -eq 56 ] && echo cut; \
         {CURL} {plain} http://other.lab.test/x; [ $? -eq 56 -o $? -eq 52 ] && echo cut; \
         {CURL} --proxytunnel http://good.lab.test/tunnel; \
         printf 'junk\\n' | {CURL} --proxytunnel telnet://good.lab.test:443; echo $?"
    ));
    let events = ran.events();
    let said = String::from_utf8_lossy(&ran.output.stdout).into_owned();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        &lines[..3],
        ["cut", "cut", "good.lab.test 2001:db8:113::80"],
        "{said}\n{}",
        events.join("\n")
    );
    let cut = "net_name BLOCKED layer=netns host=good.lab.test dst_ip=2001:db8:113::80";
    ran.tells(&format!("{cut} dst_port=443 sni=other.lab.test policy_rule=lab/network.default"))
        .tells(&format!("{cut} dst_port=80 sni=other.lab.test policy_rule=lab/network.default"))
        .tells(&format!("{cut} dst_port=443 policy_rule=lab/network.default"));
    let arrived = site.lab.settle().expect("the servers");
    assert!(arrived.iter().any(|line| line.contains("/tunnel")));
    let other = |line: &&String| line.contains("hello other") || line.contains("request other");
    assert_eq!(arrived.iter().filter(other).count(), 0, "{}", arrived.join("\n"));
}

#[test]
fn a_name_that_leads_to_a_denied_address() {
    if !needed("a_name_that_leads_to_a_denied_address") {
        return;
    }
    let mut site = Site::new();
    assert_eq!(site.bare(&format!("{CURL} http://v4.git.lab.test/x")), "v4.git.lab.test 203.0.113.85");
    let code = format!("{CURL} -o /tmp/relay-body-$$ -w '%{{http_code}}\\n'");
    let ran = site.run(&format!(
        "{code} http://v4.git.lab.test/x; head -2 /tmp/relay-body-$$; \
         for name in metadata loop mapped machine; do {code} http://$name.git.lab.test/x; tail -1 /tmp/relay-body-$$; done; \
         {code} http://169.254.169.254/x; {code} http://127.0.0.1:80/x --noproxy ''; rm -f /tmp/relay-body-$$; \
         raw() {{ exec 3<>/dev/tcp/127.0.0.1/${{http_proxy##*:}}; printf \"$1 HTTP/1.1\\r\\n\\r\\n\" >&3; \
         head -1 <&3 | cut -d' ' -f2; exec 3>&-; }}; \
         for host in 2852039166 127.1 0x7f.1 0xa9fea9fe [::ffff:169.254.169.254]; do raw \"GET http://$host/\"; done"
    ));
    let not_opened = |name: &str, address: &str, why: &str| {
        format!("403\nsandbox: {name}.git.lab.test:80 is not connected to: {address} is not opened: {why}")
    };
    let expected = [
        "403\nsandbox: rule `lab/inner` denies connecting to v4.git.lab.test:80\nbecause: that one is not for us".to_owned(),
        not_opened("metadata", "169.254.169.254", "link-local"),
        not_opened("loop", "127.0.0.1", "loopback"),
        not_opened("mapped", "127.0.0.1", "loopback"),
        not_opened("machine", "203.0.113.1", "this machine's own"),
        "403\n403".to_owned(),
        // Numbers that are no address; a name that nobody may ask; an address.
        "400\n400\n400\n403\n403".to_owned(),
    ];
    let said = String::from_utf8_lossy(&ran.output.stdout).into_owned();
    assert_eq!(said.trim(), expected.join("\n"), "{}", ran.events().join("\n"));
    ran.tells(
        "net_connect BLOCKED layer=netns host=v4.git.lab.test dst_ip=203.0.113.85 dst_port=80 policy_rule=lab/inner \
         because=that one is not for us",
    )
    .tells("net_connect BLOCKED layer=netns dst_ip=169.254.169.254 dst_port=80 policy_rule=lab/network.default");
}

/// Sends without connecting first, and over MPTCP.
const SENDERS: &str = r#"
import errno, socket
def tried(act):
    try:
        act()
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
there = ("203.0.113.80", 80)
def fast():
    with socket.socket() as s: s.sendto(b"x", 0x20000000, there)
def several():
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262) as s: s.connect(there)
def datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s: s.sendto(b"x", there)
def six():
    with socket.socket(socket.AF_INET6) as s: s.connect(("::ffff:203.0.113.80", 80))
def family(number, kind, protocol=0):
    return lambda: socket.socket(number, kind, protocol).close()
acts = [fast, several, datagram, six, family(socket.AF_PACKET, socket.SOCK_RAW), family(40, socket.SOCK_STREAM)]
print(" ".join(tried(act) for act in acts))
"#;

#[test]
fn what_does_not_ask_the_relay_has_no_network() {
    if !needed("what_does_not_ask_the_relay_has_no_network") {
        return;
    }
    let mut site = Site::new();
    let steps = [
        "tcp=203.0.113.80:443",
        "tcp=[2001:db8:113::80]:443",
        "http=169.254.169.254:80,169.254.169.254",
        "ask=203.0.113.54,good.lab.test,A",
        "ask=203.0.113.53,good.lab.test,A",
        "ask=203.0.113.53,good.lab.test,A,tcp",
        "ask=203.0.113.53,denied.lab.test,A",
        "resolve=denied.lab.test",
        "listen=127.0.0.1:8080",
        "listen=[::1]:8080",
    ];
    let script: Vec<String> = steps.iter().map(|step| format!("{} | cut -f2", site.step(step))).collect();
    let file = site.lab.path("senders.py");
    std::fs::write(&file, SENDERS).expect("a script");
    let script = format!("{}; {PYTHON} {}", script.join("; "), file.display());
    // Nobody on the machine may be in the way of its own server.
    let bare = site.bare(&script);
    assert!(bare.starts_with("ok\nok\n200 169.254.169.254"), "the control: {bare}");
    site.lab.settle().expect("the servers");
    let ran = site.run(&script);
    ran.says(
        "ENETUNREACH\nENETUNREACH\nENETUNREACH\nENETUNREACH\nNOERROR 203.0.113.80\nNOERROR 203.0.113.80\nNXDOMAIN\n\
         EAI_NONAME\nown\nown\nENETUNREACH ENETUNREACH ENETUNREACH ENETUNREACH EPERM EPERM",
    );
    ran.tells("net_connect BLOCKED layer=netns dst_ip=203.0.113.54 dst_port=53 policy_rule=lab/network.default ret=-101");
    ran.tells("net_connect BLOCKED layer=netns dst_ip=169.254.169.254 dst_port=80 policy_rule=lab/network.default ret=-101");
    ran.tells(
        "dns_answer BLOCKED layer=netns host=denied.lab.test dst_ip=203.0.113.53 dst_port=53 \
         policy_rule=lab/network.default rcode=NXDOMAIN",
    );
    let arrived = site.lab.settle().expect("the servers");
    let out = arrived.iter().filter(|line| !line.contains("resolver"));
    assert_eq!(out.count(), 0, "{}", arrived.join("\n"));
}

#[test]
fn the_machines_own_servers_are_reached_by_the_relay_alone() {
    if !needed("the_machines_own_servers_are_reached_by_the_relay_alone") {
        return;
    }
    let mut site = Site::new();
    // A server on the loopback of the side where commands run.
    let serve = "import http.server as h,sys;s=h.HTTPServer(('127.0.0.1',int(sys.argv[1])),h.SimpleHTTPRequestHandler);\
                 print('up',flush=True);s.serve_forever()";
    let mut servers: Vec<_> = ["5433", "5434"]
        .map(|port| {
            let mut command = site.lab.command(PYTHON.as_ref());
            command.args(["-c", serve, port]).stdout(Stdio::piped()).stderr(Stdio::null());
            let mut child = command.spawn().expect("a server");
            let mut line = String::new();
            let out = child.stdout.take().expect("its output");
            std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).expect("its word");
            child
        })
        .into();
    let code = "curl -s -m 20 -o /dev/null -w '%{http_code}\\n'";
    let ran = site.run(&format!(
        "{code} --noproxy '' http://127.0.0.1:5433/; {code} --noproxy '' http://localhost:5433/; \
         {code} --noproxy '' http://127.0.0.1:5434/; {code} http://127.0.0.1:5433/; echo $?"
    ));
    let local = "net_connect ALLOWED layer=netns";
    let lines = ran.events();
    for server in &mut servers {
        let _ = server.kill();
        let _ = server.wait();
    }
    ran.says("200\n200\n403\n000\n7");
    ran.tells(&format!(
        "{local} host=localhost dst_ip=127.0.0.1 dst_port=5433 policy_rule=lab/database ret=0"
    ));
    let denied = "net_connect BLOCKED layer=netns";
    assert!(lines.iter().any(|line| line.starts_with(denied) && line.contains("dst_port=5434")), "{lines:?}");
}

#[test]
fn clients_that_say_nothing_keep_nobody_waiting() {
    if !needed("clients_that_say_nothing_keep_nobody_waiting") {
        return;
    }
    let mut site = Site::new();
    let script = format!(
        r#"{PYTHON} - <<'P'
import os, socket, subprocess, time
relay = os.environ["https_proxy"].removeprefix("http://").split(":")
relay = (relay[0], int(relay[1]))
silent = [socket.create_connection(relay) for _ in range(400)]
for number, one in enumerate(silent):
    one.sendall([b"GET http://", b"\x05", b"CONNECT good.lab.test:443 HTTP/1.1\r\n"][number % 3])
began = time.monotonic()
subprocess.run(["curl", "-sS", "-m", "20", "--cacert", os.environ["CA"], "https://good.lab.test/x"])
print("soon" if time.monotonic() - began < 10 else "late")
junk = socket.create_connection(relay)
junk.sendall(os.urandom(1) + bytes(range(256)) * 1024)
P"#
    );
    let began = Instant::now();
    site.run(&script).says("good.lab.test 2001:db8:113::80\nsoon");
    assert!(began.elapsed() < Duration::from_secs(120));
}

#[test]
fn git_and_an_ordinary_user_work_by_the_relay() {
    if !needed("git_and_an_ordinary_user_work_by_the_relay") {
        return;
    }
    let mut site = Site::new();
    let step = site.step("git=-4 https://code.git.lab.test/r.git");
    site.run(&step).says("git=-4 https://code.git.lab.test/r.git\t0 a repository");
    let script = "cd /; id -u; curl -sSk -m 20 https://good.lab.test/x; curl -s -m 5 --noproxy '*' http://203.0.113.80/; \
                  echo $?; unshare -rn true 2>/dev/null; grep CapEff /proc/self/status | tr -s '[:space:]' ' '";
    let ran = site.run_with(POLICY, &["--user", "65534"], script);
    ran.says("65534\ngood.lab.test 2001:db8:113::80\n7\nCapEff: 0000000000000000");
}

#[test]
fn an_open_network_is_left_alone() {
    if !needed("an_open_network_is_left_alone") {
        return;
    }
    let mut site = Site::new();
    let open = "version: 1\nname: open\nnetwork:\n  default: allow\n  rules:\n    - { name: one, deny: [connect], to: [\"203.0.113.84\"] }\n";
    let refused = site.run_with(open, &[], "true");
    let said = String::from_utf8_lossy(&refused.output.stderr).into_owned();
    assert_eq!(refused.output.status.code(), Some(125), "{said}");
    assert!(
        said.contains("layer `netns` is not to be had: no policy of this run closes the network"),
        "{said}"
    );
    // Of what a policy's section `env` says otherwise, nothing is set.
    let env = format!("{POLICY}env:\n  drop: [\"*_proxy\", \"HTTPS_PROXY\"]\n");
    let ran = site.run_with(&env, &[], "env | grep -ci 'https\\?_proxy=' ; env | grep -c '^HTTP_PROXY='");
    ran.says("2\n1");
}

/// What goes on when the command ends has its end in the record all the same.
#[test]
fn each_connection_has_its_end_in_the_record() {
    if !needed("each_connection_has_its_end_in_the_record") {
        return;
    }
    let mut site = Site::new();
    let ran = site.run(&format!(
        "exec 3<>/dev/tcp/127.0.0.1/${{http_proxy##*:}}; printf 'CONNECT good.lab.test:443 HTTP/1.1\\r\\n\\r\\n' >&3; \
         head -1 <&3 | tr -d '\\r'; {CURL} http://good.lab.test/x; sleep 300 & exit 0"
    ));
    ran.says("HTTP/1.1 200 Connection established\ngood.lab.test 2001:db8:113::80");
    let events = ran.events();
    for port in [80, 443] {
        let end = format!("layer=netns host=good.lab.test dst_ip=2001:db8:113::80 dst_port={port}");
        let count =
            |kind: &str| events.iter().filter(|line| line.starts_with(&format!("{kind} {end}"))).count();
        assert_eq!(
            (count("net_connect ALLOWED"), count("net_close OBSERVED")),
            (1, 1),
            "{}",
            events.join("\n")
        );
    }
}

/// The reports of layers say that it held, and how that is known.
#[test]
fn the_layer_is_proven_and_reported() {
    if !needed("the_layer_is_proven_and_reported") {
        return;
    }
    let mut site = Site::new();
    let ran = site.run("true");
    let meta = std::fs::read(ran.record.join("meta.json")).expect("meta.json");
    let meta: serde_json::Value = serde_json::from_slice(&meta).expect("JSON");
    let layers = meta["layers"].as_array().expect("layers");
    let roles: BTreeMap<&str, &serde_json::Value> =
        layers.iter().filter_map(|layer| Some((layer["name"].as_str()?, layer))).collect();
    assert_eq!(roles["netns"]["role"], "enforces");
    let checks = roles["netns"]["selftest"].as_array().expect("checks");
    assert!(checks.len() == 4 && checks.iter().all(|check| check["result"] == "held"), "{checks:?}");
    assert!(!roles.contains_key("cgroup-net"), "it stands in its place");
}
