//! `sandbox policy test`, `replay`, `diff`, `groups`, `schema` and `convert`. Only recording needs a privilege.

use std::fs;

use audit_verify::chain::ChainWriter;
use sandbox_tests::log::Log;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};
use serde_json::Value;

const POLICY: &str = r#"
version: 1
name: repo
groups: { secrets: ["${WORKSPACE}/secret/**", "**/*.pem"] }
files:
  default: allow
  rules:
    - { name: no-keys, deny: [read], path: ["@secrets"], because: keys stay here }
    - { name: soon, deny: [write], path: ["/srv/**"], mode: audit }
network:
  default: deny
  rules:
    - { name: api, allow: [connect], to: ["10.0.0.0/8:443/tcp"] }
    - { name: npm, allow: [connect], to: ["192.0.2.1:443"], under: ["**/npm"] }
examples:
  - { open: "/a/b.pem", access: read, verdict: deny, rule: no-keys }
  - { connect: "10.1.2.3:443", verdict: allow }
"#;

/// The answer of `sandbox policy ARGS…` in the scene's directory, and its status.
fn ask(scene: &Scene, args: &[&str]) -> (i32, String, String) {
    let done = finish(scene.sandbox(["policy"].iter().chain(args)));
    (done.code(), done.stdout, done.stderr)
}

fn scene() -> Scene {
    let scene = Scene::new();
    write(&scene, "repo.yaml", POLICY);
    scene
}

fn write(scene: &Scene, name: &str, text: &str) {
    fs::write(scene.work().join(name), text).expect("the scene is set");
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|why| panic!("{why}: {text}"))
}

/// What stands on one line of a log.
#[derive(Clone, Copy)]
enum Line<'t> {
    Start,
    Fork(u64, u64),
    Exec(u64, &'t str),
    Open(u64, &'t str, &'t str, i64),
    Connect(u64, &'t str, u64, i64),
    End,
}

/// A run with these lines in the scene's directory, as the product chains them.
fn log(scene: &Scene, name: &str, lines: impl Iterator<Item = Line<'static>>) {
    let mut chain = ChainWriter::default();
    let mut text = Vec::new();
    for line in lines {
        let id = |pid: u64| format!("{pid}-1");
        let appended = chain.append(|event| {
            let (kind, pid) = match line {
                Line::Start => ("run_start", 1),
                Line::End => ("run_end", 1),
                Line::Fork(pid, _) => ("fork", pid),
                Line::Exec(pid, _) => ("exec", pid),
                Line::Open(pid, ..) => ("file_open", pid),
                Line::Connect(pid, ..) => ("net_connect", pid),
            };
            if let Line::Open(_, access, ..) = line {
                event.put("access", &[access.as_bytes().to_vec()][..]);
            }
            event.put("action", "OBSERVED");
            if let Line::Fork(_, child) = line {
                event.put("child_pid", child).put("child_proc_id", id(child).as_bytes());
            }
            if let Line::Connect(_, ip, port, _) = line {
                event.put("dst_ip", ip).put("dst_port", port);
            }
            event.put("event_type", kind);
            if let Line::Exec(_, exe) = line {
                event.put("exe", exe);
            }
            if let Line::Connect(..) = line {
                event.put("family", "inet");
            }
            if let Line::Exec(_, path) | Line::Open(_, _, path, _) = line {
                event.put("path", path);
            }
            event.put("pid", pid).put("proc_id", id(pid).as_bytes());
            match line {
                Line::Connect(_, _, _, ret) => {
                    event.put("proto", "tcp").put("ret", ret);
                }
                Line::Open(_, _, _, ret) => {
                    event.put("ret", ret);
                }
                Line::Exec(..) => {
                    event.put("ret", 0);
                }
                _ => {}
            }
            event.put("run_id", "20260101-000000-x").put("v", 1);
        });
        text.extend_from_slice(appended.expect("a line"));
    }
    fs::create_dir_all(scene.work().join(name)).expect("the scene is set");
    fs::write(scene.work().join(name).join("events.jsonl"), text).expect("the scene is set");
}

/// A shell, an npm below it, and a curl beside that.
fn recorded(scene: &Scene) {
    let lines = [
        Line::Start,
        Line::Exec(1, "/bin/sh"),
        Line::Fork(1, 2),
        Line::Exec(2, "/usr/bin/npm"),
        Line::Fork(2, 3),
        Line::Exec(3, "/usr/bin/node"),
        Line::Open(3, "read", "/a/b.pem", 3),
        Line::Open(3, "read", "/a/b.pem", 3),
        Line::Open(3, "read", "/a/gone.pem", -2),
        Line::Open(3, "write", "/a/b.pem", 3),
        Line::Open(3, "write", "/srv/x", 3),
        Line::Connect(3, "192.0.2.1", 443, 0),
        Line::Fork(1, 4),
        Line::Exec(4, "/usr/bin/curl"),
        Line::Connect(4, "192.0.2.1", 443, -111),
        Line::Connect(4, "10.1.2.3", 443, 0),
        Line::End,
    ];
    log(scene, "run", lines.into_iter());
}

#[test]
fn examples_are_tried_one_by_one() {
    let scene = scene();
    let (code, stdout, stderr) = ask(&scene, &["test", "repo.yaml"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{stdout}");
    assert!(stdout.starts_with("ok     repo.yaml:16: "), "{stdout}");
    assert!(stdout.ends_with("all 2 examples hold\n"), "{stdout}");

    write(
        &scene,
        "more.yaml",
        "examples:\n  - { open: \"/x/y.pem\", access: [read], verdict: allow, rule: api }\n",
    );
    let (code, stdout, _) = ask(&scene, &["test", "repo.yaml", "--examples", "more.yaml"]);
    assert_eq!(code, 1, "{stdout}");
    for says in [
        "FAILED more.yaml:2: { open: \"/x/y.pem\"",
        "wanted allow by api",
        "found deny by repo/no-keys, because keys stay here",
        "1 of 3 examples failed",
    ] {
        assert!(stdout.contains(says), "{says} in {stdout}");
    }
    let (code, stdout, _) = ask(&scene, &["test", "repo.yaml", "--examples", "more.yaml", "--json"]);
    let last = json(stdout.lines().last().expect("three lines"));
    assert_eq!((code, stdout.lines().count(), &last["passed"]), (1, 3, &Value::Bool(false)));

    // A policy whose own examples fail is wrong to `check`, and is tested all the same.
    write(&scene, "wrong.yaml", &POLICY.replace("verdict: allow }\n", "verdict: deny }\n"));
    let (code, _, stderr) = ask(&scene, &["check", "wrong.yaml"]);
    assert!(code == 1 && stderr.contains("wrong.yaml:17:"), "{stderr}");
    assert_eq!(ask(&scene, &["test", "wrong.yaml"]).0, 1);
}

#[test]
fn a_replay_groups_what_would_be_blocked_and_says_what_would_allow_it() {
    let scene = scene();
    recorded(&scene);
    let (code, stdout, stderr) = ask(&scene, &["replay", "repo.yaml", "run/events.jsonl"]);
    assert_eq!(code, 1, "{stderr}");
    for says in [
        "would have blocked 3 of 11 events, and reported 1 on trial",
        "2 repo/no-keys\n",
        "because keys stay here",
        "2   read /a/b.pem",
        "by /usr/bin/node",
        "except: [\"/a/b.pem\"]  # in rule no-keys",
        "1 repo/network.default",
        "1   connect 192.0.2.1:443/tcp",
        "by /usr/bin/curl",
        "- { name: connect-192.0.2.1-443, allow: [connect], to: [\"192.0.2.1:443/tcp\"] }  # in network",
        "1 repo/soon (on trial)",
    ] {
        assert!(stdout.contains(says), "{says} in {stdout}");
    }
    // Longest lines are those that are there to be copied.
    let long = stdout.lines().filter(|line| line.len() > 80 && !line.contains("# in"));
    assert_eq!(long.count(), 0, "{stdout}");

    let answer = json(&ask(&scene, &["replay", "repo.yaml", "run", "--json"]).1);
    assert_eq!(
        (&answer["blocked"], &answer["attempts"], &answer["on_trial"]),
        (&3.into(), &11.into(), &1.into())
    );
    assert_eq!(answer["groups"][0]["allow_with"][0]["section"], "files");

    // With the lines in it, nothing is blocked any more.
    let amended = POLICY
        .replace("path: [\"@secrets\"],", "path: [\"@secrets\"], except: [\"/a/b.pem\"],")
        .replace("    - { name: npm", "    - { name: connect-192.0.2.1-443, allow: [connect], to: [\"192.0.2.1:443/tcp\"] }\n    - { name: npm")
        .replace("verdict: deny, rule: no-keys", "verdict: allow");
    write(&scene, "amended.yaml", &amended);
    let (code, stdout, stderr) = ask(&scene, &["replay", "amended.yaml", "run"]);
    assert!(code == 0 && stdout.starts_with("would have blocked 0 of 11 events"), "{stdout}{stderr}");
}

#[test]
fn what_a_record_does_not_tell_is_said() {
    let scene = scene();
    log(&scene, "torn", [Line::Start, Line::Exec(1, "/bin/sh"), Line::Open(9, "read", "/x", 3)].into_iter());
    write(&scene, "load.yaml", "version: 1\nname: l\nfiles: { default: deny }\n");
    let (code, stdout, stderr) = ask(&scene, &["replay", "load.yaml", "torn"]);
    assert_eq!(code, 1, "{stdout}");
    for says in ["the record is incomplete", "1 processes began unrecorded", "mapped as code (load)"] {
        assert!(stderr.contains(says), "{says} in {stderr}");
    }
    let empty = scene.work().join("none");
    fs::create_dir(&empty).expect("mkdir");
    for (args, says) in [
        (["replay", "repo.yaml", "none"], "no events.jsonl"),
        (["replay", "repo.yaml", "last"], "no runs yet"),
        (["replay", "missing.yaml", "torn"], "missing.yaml"),
        (["replay", "repo.yaml", "--limit"], "--limit"),
    ] {
        let (code, stdout, stderr) = ask(&scene, &args);
        assert!(code == 2 && stdout.is_empty() && stderr.contains(says), "{args:?}: {says} in {stderr}");
    }
}

#[test]
fn a_replay_of_a_judged_run_says_what_the_run_said() {
    if !met("replaying a judged run", &[Need::Trace]) {
        return;
    }
    let scene = scene();
    fs::create_dir(scene.work().join("secret")).expect("mkdir");
    write(&scene, "secret/key", "k");
    write(
        &scene,
        "judged.yaml",
        &format!(
            "{POLICY}exec:\n  default: allow\n  rules:\n    - {{ name: tools, deny: [run], path: [\"**/cat\"] }}\n"
        ),
    );
    let script =
        "cat secret/key; head -c1 secret/key; mv secret/key k; ln k l; rm k l; mkdir d; rmdir d; true";
    let run = ["run", "--policy", "judged.yaml", "--layers", "trace", "--", "sh", "-c", script];
    finish(scene.sandbox(run)).expect(0);
    let log = Log::of_run(&scene.run());
    let mut said = std::collections::BTreeMap::<String, u64>::new();
    for (_, record) in log.records().filter(|(_, record)| record.text("action") == Some("WOULD_BLOCK")) {
        let rule = record.text("policy_rule").expect("a rule").to_owned();
        *said.entry(rule).or_default() += record.uint("count").unwrap_or(1);
    }
    assert!(said.contains_key("repo/no-keys") && said.contains_key("repo/tools"), "{said:?}");
    let answer = json(&ask(&scene, &["replay", "judged.yaml", "--json"]).1);
    let mut found = std::collections::BTreeMap::<String, u64>::new();
    for group in answer["groups"].as_array().expect("groups") {
        let rule = group["rule"].as_str().expect("a rule").to_owned();
        *found.entry(rule).or_default() += group["count"].as_u64().expect("a count");
    }
    assert_eq!(found, said);
}

#[test]
fn a_diff_says_what_changes_in_words_and_on_runs() {
    let scene = scene();
    recorded(&scene);
    let changed = POLICY
        .replace("path: [\"@secrets\"],", "path: [\"@secrets\"], except: [\"/a/**\"],")
        .replace("to: [\"10.0.0.0/8:443/tcp\"]", "to: [\"10.2.0.0/16:443/tcp\"]")
        .replace("verdict: deny, rule: no-keys", "verdict: allow")
        .replace("verdict: allow }\n", "verdict: deny }\n");
    write(&scene, "new.yaml", &changed);
    let (code, stdout, stderr) = ask(&scene, &["diff", "repo.yaml", "new.yaml"]);
    assert_eq!((code, stderr.as_str()), (1, ""), "{stdout}");
    for says in [
        "~ no-keys\n      except:\n        + /a/**",
        "~ api\n      to:\n        - 10.0.0.0/8:443/tcp\n        + 10.2",
    ] {
        assert!(stdout.contains(says), "{says} in {stdout}");
    }
    let answer = json(&ask(&scene, &["diff", "repo.yaml", "new.yaml", "run", "--json"]).1);
    let one = |side: &str| {
        let groups = answer[side].as_array().expect("groups");
        assert_eq!(groups.len(), 1, "{answer}");
        (groups[0]["object"].as_str().expect("an object").to_owned(), groups[0]["count"].as_u64())
    };
    assert_eq!(one("closed"), ("10.1.2.3:443/tcp".to_owned(), Some(1)));
    assert_eq!(one("opened"), ("/a/b.pem".to_owned(), Some(2)));
    let (code, stdout, _) = ask(&scene, &["diff", "repo.yaml", "repo.yaml", "run"]);
    assert!(code == 0 && stdout.starts_with("the policies say the same\n"), "{stdout}");
    assert_eq!(ask(&scene, &["diff", "repo.yaml"]).0, 2);
    assert_eq!(ask(&scene, &["diff", "repo.yaml", "missing.yaml"]).0, 2);
}

#[test]
fn groups_are_listed_with_their_entries() {
    let scene = scene();
    let (code, stdout, _) = ask(&scene, &["groups", "@credentials"]);
    assert!(code == 0 && stdout.starts_with("@credentials (version "), "{stdout}");
    assert!(stdout.contains("/etc/{shadow,gshadow}{,-}"), "{stdout}");
    let (_, all, _) = ask(&scene, &["groups", "--policy", "repo.yaml"]);
    for name in
        ["@libraries", "@toolchains", "@persistence", "@git-code", "@secrets (of this policy)", "**/*.pem"]
    {
        assert!(all.contains(name), "{name} in {all}");
    }
    let (_, one, _) = ask(&scene, &["groups", "secrets", "--policy", "repo.yaml", "--json"]);
    assert_eq!(json(&one)["entries"][1], "**/*.pem");
    let (code, stdout, stderr) = ask(&scene, &["groups", "nothing"]);
    assert!(code == 2 && stdout.is_empty() && stderr.contains("@credentials"), "{stderr}");
}

#[test]
fn eval_names_the_layers_and_the_line() {
    let scene = scene();
    let (code, stdout, _) = ask(&scene, &["eval", "repo.yaml", "--open", "/a/b.pem"]);
    assert!(code == 1 && stdout.contains("  held by lsm; on this machine"), "{stdout}");
    assert!(stdout.contains("  allow it with\n    except: [\"/a/b.pem\"]  # in rule no-keys\n"), "{stdout}");
    let (_, stdout, _) = ask(&scene, &["eval", "repo.yaml", "--bind", "127.0.0.1:80", "--json"]);
    let answer = json(&stdout);
    assert_eq!((&answer["verdict"], &answer["rule"]), (&"deny".into(), &"repo/network.default".into()));
    assert_eq!(
        answer["allow_with"][0]["line"],
        "- { name: bind-127.0.0.1-80, allow: [bind], to: [\"127.0.0.1:80/tcp\"] }"
    );
    let (code, stdout, _) = ask(&scene, &["eval", "repo.yaml", "--open", "/x", "--json"]);
    assert_eq!((code, &json(&stdout)["allow_with"]), (0, &Value::Array(Vec::new())));
}

const SOCKETS: &str = r#"
version: 1
name: sockets
files: { default: allow, rules: [{ name: no-keys, deny: [read], path: ["**/*.pem"] }] }
network: { default: deny, rules: [{ name: all, allow: [connect], to: ["unix:/**"] }] }
"#;

/// Whatever a target of the section `network` can name can be asked about.
#[test]
fn eval_knows_names_own_listeners_and_unix_sockets() {
    let scene = scene();
    let asked = |end: &[&str]| {
        let (code, stdout, stderr) = ask(&scene, &[&["eval", "coding-agent-strict"], end].concat());
        (code, stdout, stderr)
    };
    let (code, stdout, _) = asked(&["--connect", "Registry.NPMjs.org.:443"]);
    assert!(
        code == 0 && stdout.contains("by coding-agent/registries\n  held by cgroup-net; on this machine"),
        "{stdout}"
    );
    let (code, stdout, _) = asked(&["--connect", "registry.npmjs.org.evil.test:443"]);
    assert!(code == 1 && stdout.contains("to: [\"registry.npmjs.org.evil.test:443/tcp\"]"), "{stdout}");
    for (wrong, instead) in [
        ("https://a.example/x", "write only its host and port: a.example:443"),
        ("2001:db8::1:443", "with a port an IPv6 address is written [2001:db8::1]:443"),
        ("bücher.example:443", "write its xn--… form"),
    ] {
        let (code, stdout, stderr) = asked(&["--connect", wrong]);
        assert!(code == 2 && stdout.is_empty() && stderr.contains(instead), "{stderr}");
    }
    let (code, stdout, _) = asked(&["--connect", "127.0.0.1:80"]);
    assert!(code == 1 && stdout.contains("  held by lsm or cgroup-net; on this machine"), "{stdout}");
    let (_, stdout, _) = asked(&["--listen", "127.0.0.1:80"]);
    assert!(stdout.contains("  held by lsm; on this machine"), "{stdout}");
    let (code, stdout, _) = asked(&["--connect", "own:3000"]);
    assert!(code == 0 && stdout.contains("by coding-agent/own-servers\n"), "{stdout}");
    let (code, stdout, _) = asked(&["--connect", "own:22"]);
    assert!(code == 1 && stdout.contains("to: [\"own:22/tcp\"]"), "{stdout}");
    let (code, stdout, _) = asked(&["--connect", "localhost:3000"]);
    assert!(code == 1 && stdout.contains("connect 127.0.0.1 port 3000 tcp\n"), "{stdout}");
    let (code, stdout, _) = asked(&["--connect", "unix:/run/docker.sock"]);
    assert!(code == 1 && stdout.contains("by coding-agent-strict/sockets-elsewhere\n"), "{stdout}");
    let (code, stdout, _) = asked(&["--connect", "unix:/tmp/of-this-run"]);
    assert!(code == 0 && stdout.contains("held by lsm; on this machine"), "{stdout}");
    let (code, stdout, _) = asked(&["--connect", "unix:@hidden"]);
    assert!(code == 1 && stdout.contains("to: [\"unix:@hidden\"]"), "{stdout}");
    // A rule on files that keeps a path from being read keeps its socket from being reached.
    write(&scene, "sockets.yaml", SOCKETS);
    let (code, stdout, _) = ask(&scene, &["eval", "sockets.yaml", "--connect", "unix:/a/b.pem"]);
    assert!(code == 1 && stdout.contains("by sockets/no-keys\n"), "{stdout}");
    assert_eq!(ask(&scene, &["eval", "sockets.yaml", "--connect", "unix:/a/b"]).0, 0);
    for wrong in ["bad name:1", "registry.npmjs.org", "unix:relative", "host:70000", "10.0.0.1:53/sctp"] {
        let (code, stdout, stderr) = asked(&["--connect", wrong]);
        assert!(
            code == 2 && stdout.is_empty() && stderr.contains("write ") | stderr.contains("neither"),
            "{stderr}"
        );
    }
    let (code, _, stderr) = asked(&["--bind", "registry.npmjs.org:443"]);
    assert!(code == 2 && stderr.contains("a socket is bound to an address"), "{stderr}");
}

#[test]
fn eval_takes_words_as_a_run_would() {
    let scene = scene();
    // A bare name is looked up, a datagram goes by UDP, and what no layer judges is not called held.
    let (_, stdout, _) = ask(&scene, &["eval", "repo.yaml", "--run", "sh"]);
    assert!(stdout.contains(": run /") && !stdout.contains("/work/sh"), "{stdout}");
    let (code, _, stderr) = ask(&scene, &["eval", "repo.yaml", "--run", "no-such-program"]);
    assert!(code == 2 && stderr.contains("write ./no-such-program"), "{stderr}");
    let (code, _, stderr) = ask(&scene, &["eval", "repo.yaml", "--open", "~/.ssh/id"]);
    assert!(code == 2 && stderr.contains("only a shell knows"), "{stderr}");
    let (_, stdout, _) = ask(&scene, &["eval", "repo.yaml", "--send", "10.0.0.1:53"]);
    assert!(stdout.contains("port 53 udp"), "{stdout}");
    let (code, _, stderr) = ask(&scene, &["eval", "repo.yaml", "--access", "write", "--run", "/bin/ls"]);
    assert!(code == 2 && stderr.contains("--access"), "{stderr}");
}

#[test]
fn the_schema_is_json_of_the_draft_that_it_names() {
    let scene = Scene::new();
    let (code, stdout, _) = ask(&scene, &["schema"]);
    let schema = json(&stdout);
    assert_eq!((code, &schema["$schema"]), (0, &"https://json-schema.org/draft/2020-12/schema".into()));
    assert!(schema["properties"]["files"]["properties"]["rules"].is_object());
}

const KUBEARMOR: &str = "\
kind: KubeArmorPolicy
metadata: { name: web }
spec:
  selector: { matchLabels: { app: web } }
  file:
    matchDirectories: [{ dir: /secret/, recursive: true }]
  network: { matchProtocols: [{ protocol: icmp }] }
  action: Block
";

#[test]
fn policies_of_other_tools_come_and_go() {
    let scene = scene();
    write(&scene, "web.yaml", KUBEARMOR);
    let (code, stdout, stderr) = ask(&scene, &["convert", "web.yaml"]);
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("web.yaml: line 7: WIDER: protocol `icmp`"), "{stderr}");
    write(&scene, "web-ours.yaml", &stdout);
    assert_eq!(ask(&scene, &["eval", "web-ours.yaml", "--open", "/secret/x"]).0, 1);
    assert_eq!(ask(&scene, &["eval", "web-ours.yaml", "--open", "/open/x"]).0, 0);
    let (code, stdout, stderr) = ask(&scene, &["convert", "web.yaml", "--strict"]);
    assert!(code == 1 && stdout.is_empty() && stderr.contains("--strict"), "{stderr}");

    write(
        &scene,
        "gate.yaml",
        "rules:\n  - { action: HUMAN_APPROVAL, path_prefix: /deploy/, timeout_seconds: 60 }\n",
    );
    let (code, stdout, _) = ask(&scene, &["convert", "gate.yaml", "--strict"]);
    assert!(code == 0 && stdout.contains("ask: [all]") && stdout.contains("timeout: 60s"), "{stdout}");
    write(&scene, "gate-ours.yaml", &stdout);
    // A time that nothing waits for is left out, so not everything is carried over.
    write(
        &scene,
        "late.yaml",
        "default_action: BLOCK\nrules:\n  - { action: ALLOW, path_prefix: /deploy/, timeout_seconds: 60 }\n",
    );
    let (code, stdout, stderr) = ask(&scene, &["convert", "late.yaml", "--strict"]);
    assert!(code == 1 && stdout.is_empty(), "{stdout}{stderr}");
    assert!(stderr.contains("left aside: only what asks waits") && stderr.contains("note: "), "{stderr}");
    let (code, stdout, _) = ask(&scene, &["convert", "late.yaml"]);
    assert!(code == 0 && stdout.contains("allow: [all]"), "{stdout}");
    let (code, answer, _) = ask(&scene, &["eval", "gate-ours.yaml", "--open", "/deploy/x"]);
    assert!(code == 1 && answer.starts_with("ask: "), "{answer}");

    let (code, stdout, stderr) =
        ask(&scene, &["convert", "repo.yaml", "--to", "kubearmor", "--select", "app=x"]);
    assert!(code == 0 && stdout.contains("kind: KubeArmorPolicy") && stderr.contains("repo/api"), "{stderr}");
    let (code, stdout, stderr) = ask(&scene, &["convert", "repo.yaml", "--to", "oci-seccomp"]);
    let profile = json(&stdout);
    assert_eq!((code, &profile["defaultAction"]), (0, &"SCMP_ACT_ALLOW".into()));
    let names = profile["syscalls"][0]["names"].as_array().expect("names");
    assert!(names.contains(&"io_uring_setup".into()) && names.contains(&"setns".into()), "{names:?}");
    assert!(names.contains(&"mount".into()) && names.contains(&"reboot".into()), "{names:?}");
    assert!(stderr.contains("WIDER: `kernel`: of `ptrace-any` a filter leaves open"), "{stderr}");
    assert!(stderr.contains("WIDER: section `files`"), "{stderr}");
    for (args, says) in [
        (&["convert", "repo.yaml"][..], "is a policy already"),
        (&["convert", "web.yaml", "--to", "kubearmor"], "leave out --to"),
        (&["convert", "repo.yaml", "--from", "kubearmor"], "`kind` must be KubeArmorPolicy"),
        (&["convert", "repo.yaml", "--to", "kubearmor", "--select", "x"], "KEY=VALUE"),
        (&["convert", "repo.yaml", "--to", "apparmor"], "apparmor"),
        (&["convert", "missing.yaml"], "missing.yaml"),
    ] {
        let (code, stdout, stderr) = ask(&scene, args);
        assert!(code == 2 && stdout.is_empty() && stderr.contains(says), "{args:?}: {says} in {stderr}");
    }
}

#[test]
fn closed_system_calls_are_listed_with_their_reasons() {
    let scene = Scene::new();
    let (code, stdout, stderr) = ask(&scene, &["syscalls"]);
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(stdout.contains("\nchroot (opened by chroot; by hooks where there are some)\n"), "{stdout}");
    assert!(stdout.contains("    userfaultfd: stops the kernel"), "{stdout}");
    let (code, stdout, _) = ask(&scene, &["syscalls", "--json"]);
    let listed: Vec<_> = stdout.lines().map(json).collect();
    let keyctl = listed.iter().find(|entry| entry["name"] == "keyctl").expect("keyctl is listed");
    assert_eq!(
        (code, &keyctl["opened_by"], &keyctl["errno"]),
        (0, &serde_json::json!(["keyrings"]), &"EPERM".into())
    );
}

#[test]
fn every_verb_helps_with_an_example_in_eighty_columns() {
    let scene = Scene::new();
    for verb in ["eval", "test", "replay", "diff", "groups", "syscalls", "convert"] {
        let (code, stdout, _) = ask(&scene, &[verb, "--help"]);
        assert!(code == 0 && stdout.contains(&format!("  sandbox policy {verb} ")), "{verb}: {stdout}");
        let long: Vec<&str> = stdout.lines().filter(|line| line.chars().count() > 80).collect();
        assert!(long.is_empty(), "{verb}: {long:?}");
    }
}
