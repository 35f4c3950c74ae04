//! Policies of other tools to ours, and ours to theirs: what comes out, and what is said of the rest.

use policy::convert::{Converted, Effect, Source, from, recognise, to_kubearmor};
use policy::{Access, Act, Decision, Policy, Subject, Variables, evaluate};
use serde_yaml::Value;

fn variables() -> Variables {
    let mut variables = Variables::new();
    variables.set("HOME", "/home/u").expect("HOME is given");
    variables
}

fn parse(text: &str) -> Policy {
    Policy::parse("p.yaml", text, &variables()).unwrap_or_else(|errors| panic!("{errors}\n{text}"))
}

fn converted(source: Source, text: &str) -> (Policy, Vec<String>) {
    assert_eq!(recognise(text.as_bytes()), Some(source));
    let Converted { text, remarks } =
        from(source, "f.yaml", text.as_bytes()).unwrap_or_else(|why| panic!("{why}"));
    (parse(&text), remarks.iter().map(ToString::to_string).collect())
}

fn file(policy: &Policy, access: Access, path: &str, exe: &str) -> Decision {
    let act = Act::File { accesses: access.into(), path: path.as_bytes() };
    evaluate::judge(policy, &Subject { exe: exe.as_bytes(), ancestors: &[] }, &act).decision
}

const BLOCK: &str = r#"
apiVersion: security.kubearmor.com/v1
kind: KubeArmorPolicy
metadata: { name: block_things, namespace: default }
spec:
  severity: 5
  message: not here
  selector: { matchLabels: { app: x } }
  process:
    matchPaths:
      - { path: /usr/bin/wget }
      - { path: /bin/sleep, fromSource: [{ path: /bin/bash }] }
    matchPatterns:
      - { pattern: "/opt/*/nc[^x]" }
  file:
    matchPaths:
      - { path: "/etc/pass*wd" }
      - { path: /etc/hosts, readOnly: true }
      - { path: /own, ownerOnly: true }
    matchDirectories:
      - { dir: /secret/, recursive: true }
      - { dir: /flat/ }
      - { dir: /soon/, recursive: true, action: Audit }
    matchPatterns:
      - { pattern: "relative/[" }
  network:
    matchProtocols:
      - { protocol: TCP }
      - { protocol: icmp, fromSource: [{ path: /bin/ping }] }
  capabilities: { matchCapabilities: [{ capability: net_raw }] }
  action: Block
"#;

#[test]
fn kubearmor_blocks_become_denials() {
    use Access::{Read, Write};
    use Decision::{Allow, Deny};
    let (policy, remarks) = converted(Source::KubeArmor, BLOCK);
    assert_eq!(policy.name(), "block_things");
    let run = |path: &[u8], exe: &[u8]| {
        let subject = Subject { exe, ancestors: &[] };
        evaluate::judge(&policy, &subject, &Act::Exec { path, sha256: None }).decision
    };
    assert_eq!(run(b"/usr/bin/wget", b"/bin/sh"), Deny);
    assert_eq!((run(b"/bin/sleep", b"/bin/bash"), run(b"/bin/sleep", b"/bin/dash")), (Deny, Allow));
    assert_eq!((run(b"/opt/a/nco", b""), run(b"/opt/a/ncx", b"")), (Deny, Allow));
    for (access, path, decision) in [
        (Read, "/etc/pass*wd", Deny),
        (Read, "/etc/passwd", Allow),
        (Read, "/etc/hosts", Allow),
        (Write, "/etc/hosts", Deny),
        (Read, "/own", Deny),
        (Read, "/secret/a/b", Deny),
        (Read, "/secrets", Allow),
        (Read, "/flat/a", Deny),
        (Read, "/flat/a/b", Allow),
        (Read, "/soon/a", Allow),
    ] {
        assert_eq!(file(&policy, access, path, "/bin/sh"), decision, "{access} {path}");
    }
    let trial = evaluate::file(&policy, Read.into(), b"/soon/a").audited.expect("it is on trial");
    assert_eq!(trial.because, Some("not here"));
    let told = remarks.join("\n");
    for says in [
        "line 4: note: `metadata.namespace`",
        "stricter: `/own` is denied to its owner too",
        "WIDER: `relative/[` cannot be written as a pattern",
        "WIDER: protocol `icmp`",
        "WIDER: `capabilities`",
    ] {
        assert!(told.contains(says), "{says} in\n{told}");
    }
}

#[test]
fn kubearmor_allows_close_the_rest_of_the_section() {
    let text = BLOCK.replace("action: Block", "action: Allow");
    let (policy, remarks) = converted(Source::KubeArmor, &text);
    assert_eq!((policy.files().default(), policy.exec().default()), (Decision::Deny, Decision::Deny));
    assert_eq!(file(&policy, Access::Write, "/secret/a", ""), Decision::Allow);
    assert_eq!(file(&policy, Access::Write, "/etc/hosts", ""), Decision::Deny);
    assert_eq!(file(&policy, Access::Read, "/etc/hosts", ""), Decision::Allow);
    assert_eq!(
        file(&policy, Access::Read, "/own", ""),
        Decision::Deny,
        "what is for owners only is left out"
    );
    // Nothing that is left out of what allows makes it wider.
    assert!(remarks.iter().all(|remark| !remark.contains("WIDER")), "{remarks:?}");
}

const GATEWAY: &str = r#"
default_action: BLOCK
rules:
  - { name: work, action: ALLOW, path_prefix: /work/ }
  - { action: BLOCK, match: { path_prefix: /work/secret }, reason: not these }
  - { action: HUMAN_APPROVAL, path_prefix: ["~/notes", "/deploy/"], timeout_seconds: 300 }
  - { action: ALLOW, destination_domain: [api.example.com, "10.0.0.0/8"], destination_port: 443 }
  - { action: HUMAN_APPROVAL, destination_domain: "*.example.org" }
  - { action: ALLOW, path_prefix: /only/at/night/, hours: "22-6" }
  - { action: BLOCK, path_prefix: /also/, tool: shell }
  - { action: BLOCK, path_prefix: relative }
  - { action: ALLOW, path_prefix: /off/, enabled: false }
  - { action: ALLOW, destination_domain: any }
"#;

#[test]
fn a_gateways_rules_keep_their_meaning() {
    use Access::{Read, Write};
    use Decision::{Allow, Ask, Deny};
    let (policy, remarks) = converted(Source::Gateway, GATEWAY);
    for (path, decision) in [
        ("/work/a", Allow),
        ("/work", Deny),
        ("/workshop", Deny),
        ("/work/secret", Deny),
        ("/work/secrets/a", Deny),
        ("/home/u/notes", Ask),
        ("/home/u/notes2/a", Ask),
        ("/deploy/x/y", Ask),
        ("/only/at/night/x", Deny),
        ("/also/x", Deny),
        ("/off/x", Deny),
        ("/elsewhere", Deny),
    ] {
        assert_eq!(file(&policy, Read, path, ""), decision, "{path}");
        assert_eq!(file(&policy, Write, path, ""), decision, "{path}");
    }
    let asks = policy.files().rules().iter().find(|rule| rule.effect() == Ask).expect("a rule that asks");
    assert_eq!(asks.timeout().map(|timeout| timeout.as_secs()), Some(300));
    let connect = |address: &str, port| {
        let protocol = policy::Protocol::Tcp;
        evaluate::network(&policy, Access::Connect.into(), address.parse().unwrap(), port, protocol).decision
    };
    assert_eq!(
        (connect("10.1.1.1", 443), connect("10.1.1.1", 80), connect("192.0.2.1", 443)),
        (Allow, Deny, Deny)
    );
    // What a person is to approve asks, also where a host is meant; how long is said only where the file does.
    let asking: Vec<_> = policy.network().rules().iter().filter(|rule| rule.effect() == Ask).collect();
    assert_eq!(asking.len(), 1);
    assert_eq!(asking[0].timeout(), None);
    let named = |name: &str| {
        let end = policy::End::Address {
            address: "192.0.2.1".parse().unwrap(),
            port: 443,
            protocol: policy::Protocol::Tcp,
            names: &[name],
            owner: policy::Owner::Elsewhere,
        };
        let act = Act::Network { accesses: Access::Connect.into(), end };
        evaluate::judge(&policy, &Subject::UNKNOWN, &act).decision
    };
    assert_eq!(
        (named("x.example.org"), named("api.example.com"), named("other.example")),
        (Ask, Allow, Deny)
    );
    assert_eq!(
        evaluate::exec(&policy, b"/deploy/tool").decision,
        Ask,
        "what is below is executed only if asked"
    );
    let run = evaluate::exec(&policy, b"/work/secret/tool").decision;
    assert_eq!(run, Deny, "what is blocked is not executed either");
    let told = remarks.join("\n");
    for says in [
        "line 9: stricter: `hours` cannot be told here: the rule is left out",
        "line 10: stricter: `tool` cannot be told here: the rule holds without it",
        "line 12: left aside: the rule is not enabled",
        "line 13: stricter: `any` is no host",
        "line 11: WIDER: `relative` is no absolute path",
    ] {
        assert!(told.contains(says), "{says} in\n{told}");
    }
}

/// What could be two rules, or one that holds for both together, opens neither.
#[test]
fn a_path_and_a_host_in_one_rule_open_neither_alone() {
    let rule = |action: &str| {
        format!(
            "default_action: BLOCK\nrules:\n  - {{ action: {action}, match: {{ path_prefix: /srv/x/ }}, \
             conditions: {{ destination_domain: 10.0.0.0/8 }} }}\n"
        )
    };
    for action in ["ALLOW", "HUMAN_APPROVAL"] {
        let (policy, remarks) = converted(Source::Gateway, &rule(action));
        assert_eq!(file(&policy, Access::Read, "/srv/x/a", "/bin/sh"), Decision::Deny, "{action}");
        assert!(policy.network().rules().is_empty(), "{action}");
        let told = "line 3: stricter: a path together with a host cannot be told here: the rule is left out";
        assert!(remarks.iter().any(|remark| remark == told), "{remarks:?}");
    }
    // What is blocked is blocked at both.
    let (policy, _) = converted(Source::Gateway, &rule("BLOCK").replacen("BLOCK", "ALLOW", 1));
    assert_eq!(file(&policy, Access::Read, "/srv/x/a", "/bin/sh"), Decision::Deny);
    assert_eq!(policy.network().rules().len(), 1);
}

#[test]
fn what_a_person_approves_asks_however_it_is_mixed() {
    use Decision::{Allow, Ask, Deny};
    // A rule that allows the same before it would have the last word there; here the question has.
    let text = "default_action: ALLOW\nrules:\n  - { action: ALLOW, path_prefix: /work/, timeout_seconds: 30 }\n  \
                - { action: HUMAN_APPROVAL, path_prefix: /work/deploy/, timeout_seconds: 7200, reason: a person decides }\n  \
                - { action: BLOCK, path_prefix: /work/deploy/keys/ }\n  \
                - { action: HUMAN_APPROVAL, destination_domain: [\"10.0.0.0/8\"], destination_port: 22, timeout_seconds: 45 }\n";
    let (policy, remarks) = converted(Source::Gateway, text);
    for (path, decision) in
        [("/work/a", Allow), ("/work/deploy/a", Ask), ("/work/deploy/keys/a", Deny), ("/elsewhere", Allow)]
    {
        assert_eq!(file(&policy, Access::Write, path, ""), decision, "{path}");
    }
    let seconds = |rule: Option<std::time::Duration>| rule.map(|timeout| timeout.as_secs());
    let files = policy.files().rules().iter().find(|rule| rule.effect() == Ask).expect("a rule that asks");
    assert_eq!((seconds(files.timeout()), files.because()), (Some(7200), Some("a person decides")));
    let network = policy.network().rules().iter().find(|rule| rule.effect() == Ask).expect("another");
    assert_eq!(seconds(network.timeout()), Some(45));
    // A rule that does not wait has no time, and that is said.
    assert!(policy.files().rules().iter().all(|rule| rule.effect() == Ask || rule.timeout().is_none()));
    let told = "line 3: left aside: only what asks waits: `timeout_seconds` is left out";
    assert!(remarks.iter().any(|remark| remark.contains(told)), "{remarks:?}");
    // What is left out is a loss, also where nothing is decided by it; what has no meaning here is none.
    assert!(Effect::Aside.is_loss() && Effect::Stricter.is_loss() && Effect::Wider.is_loss());
    assert!(!Effect::Note.is_loss());
    // A default cannot ask, and denies.
    let (policy, remarks) = converted(Source::Gateway, "default_action: HUMAN_APPROVAL\nrules: []\n");
    assert_eq!(file(&policy, Access::Read, "/x", ""), Deny);
    assert!(remarks.iter().any(|remark| remark.contains("a default cannot ask")), "{remarks:?}");
}

#[test]
fn a_gateway_lets_the_first_rule_decide_and_what_differs_is_told() {
    let text = |rules: &[&str]| format!("default_action: BLOCK\nrules:\n  - {}\n", rules.join("\n  - "));
    let stricter = |rules: &[&str]| -> Vec<String> {
        let (_, remarks) = converted(Source::Gateway, &text(rules));
        remarks.into_iter().filter(|remark| remark.contains("stricter")).collect()
    };
    let rules = ["{ action: ALLOW, path_prefix: /w }", "{ action: BLOCK, path_prefix: /w/s }"];
    let (policy, _) = converted(Source::Gateway, &text(&rules));
    assert_eq!(file(&policy, Access::Read, "/w/s/a", ""), Decision::Deny);
    assert_eq!(
        stricter(&rules),
        [
            "line 4: stricter: it denies also where the rule of line 3 matches too: there the first that matches decides"
        ]
    );
    // The other way round both mean the same, and so do rules that have nothing in common.
    assert!(stricter(&[rules[1], rules[0]]).is_empty());
    for [allow, block] in [
        ["path_prefix: /w/", "path_prefix: /v/"],
        ["destination_domain: a.example.com", "destination_domain: b.example.com"],
        ["destination_domain: \"*.example.com\"", "destination_domain: \"*.example.org\""],
        [
            "{ destination_domain: a.example.com, destination_port: 80 }",
            "{ destination_domain: a.example.com, destination_port: 81 }",
        ],
        ["destination_domain: 10.1.0.0/16", "destination_domain: 10.2.0.0/16"],
    ] {
        let rules = [
            format!("{{ action: ALLOW, match: {} }}", mapping(allow)),
            format!("{{ action: BLOCK, match: {} }}", mapping(block)),
        ];
        assert!(stricter(&[&rules[0], &rules[1]]).is_empty(), "{rules:?}");
    }
    for [allow, block] in [
        // An exception of what is blocked is none here.
        ["path_prefix: /w/s/ok", "path_prefix: /w/s"],
        ["path_prefix: ~/x", "path_prefix: /home"],
        ["destination_domain: \"*.example.com\"", "destination_domain: api.example.com"],
        ["destination_domain: \"*.a.example.com\"", "destination_domain: \"*.example.com\""],
        ["destination_domain: 10.0.0.0/8", "destination_domain: 10.2.0.0/16"],
        ["destination_domain: api.example.com", "destination_domain: \"*\""],
    ] {
        let rules = [
            format!("{{ action: ALLOW, match: {} }}", mapping(allow)),
            format!("{{ action: BLOCK, match: {} }}", mapping(block)),
        ];
        assert_eq!(stricter(&[&rules[0], &rules[1]]).len(), 1, "{rules:?}");
    }
    // Questions too, each later rule once; a priority may put a rule before those above it.
    assert_eq!(
        stricter(&[
            "{ action: ALLOW, path_prefix: /w/ }",
            "{ action: HUMAN_APPROVAL, path_prefix: /w/s/ }",
            "{ action: BLOCK, path_prefix: /w/s/t/ }",
        ]),
        [
            "line 4: stricter: it asks also where the rule of line 3 matches too: there the first that matches decides",
            "line 5: stricter: it denies also where the rules of lines 3, 4 match too: there the first that matches decides",
        ]
    );
    let chosen =
        ["{ action: BLOCK, path_prefix: /w/s/ }", "{ action: ALLOW, path_prefix: /w/, priority: 1 }"];
    assert!(stricter(&chosen)[0].starts_with("line 3: stricter: it denies also where the rule of line 4"));
    // So many that comparing each with each would take long.
    let many: Vec<String> =
        (0..2_001).map(|at| format!("{{ action: ALLOW, destination_domain: h{at}.example }}")).collect();
    let many = from(
        Source::Gateway,
        "f.yaml",
        text(&many.iter().map(String::as_str).collect::<Vec<_>>()).as_bytes(),
    );
    let remarks = many.expect("it is read").remarks;
    assert!(remarks.iter().any(|remark| remark.text.contains("too many to be compared")), "{remarks:?}");
}

#[test]
fn a_prefix_ends_within_a_name_unless_a_slash_ends_it() {
    use Decision::{Allow, Ask, Deny};
    let text = "default_action: BLOCK\nrules:\n  - { action: ALLOW, path_prefix: /w/calc }\n  \
                - { action: HUMAN_APPROVAL, path_prefix: /w/ask }\n  - { action: ALLOW, path_prefix: /v/ }\n  \
                - { action: BLOCK, path_prefix: /v/keys }\n  - { action: HUMAN_APPROVAL, path_prefix: /v/ask/ }\n";
    let (policy, remarks) = converted(Source::Gateway, text);
    // What begins so is meant there, whatever follows; of what blocks and asks here, too.
    for (path, decision) in [
        ("/w/calc", Allow),
        ("/w/calc/.hidden/a", Allow),
        ("/w/calc-other/a", Allow),
        ("/w/cal", Deny),
        ("/w/ask", Ask),
        ("/w/asked/a", Ask),
        ("/v/a", Allow),
        ("/v/keys", Deny),
        ("/v/keys/a", Deny),
        ("/v/keys.old/a", Deny),
        ("/v/ask", Allow),
        ("/v/ask/.a", Ask),
    ] {
        assert_eq!(file(&policy, Access::Read, path, ""), decision, "{path}");
    }
    let notes: Vec<&String> = remarks.iter().filter(|remark| remark.contains("begins so")).collect();
    assert_eq!(notes.len(), 2, "{remarks:?}");
    let says = "line 3: note: `/w/calc` is all that begins so, also `/w/calc-other`: `/w/calc/` would be what lies below it";
    assert_eq!(notes[0], says);
}

#[test]
fn rules_without_a_name_are_called_by_what_they_are_about() {
    let names = |policy: &Policy| {
        let of = |rules: Vec<String>| rules.join(" ");
        let files = policy.files().rules().iter().map(|rule| rule.name().as_str().to_owned()).collect();
        let exec = policy.exec().rules().iter().map(|rule| rule.name().as_str().to_owned()).collect();
        let network = policy.network().rules().iter().map(|rule| rule.name().as_str().to_owned()).collect();
        [of(files), of(exec), of(network)]
    };
    let text = "name: g\nrules:\n  - { action: ALLOW, path_prefix: /work/a b/ }\n  - { action: ALLOW, path_prefix: /work/a_b }\n  \
                - { action: ALLOW, path_prefix: /work/a-b }\n  - { action: HUMAN_APPROVAL, path_prefix: \"~/.ssh/\" }\n  \
                - { action: ALLOW, path_prefix: / }\n  - { action: ALLOW, destination_domain: \"*.example.org\", destination_port: 443 }\n  \
                - { name: both, action: BLOCK, path_prefix: /k/, destination_domain: k.example }\n";
    let (policy, _) = converted(Source::Gateway, text);
    let [files, exec, network] = names(&policy);
    assert_eq!(
        files,
        "g/allow-all g/allow-work-a-b g/allow-work-a-b-2 g/allow-work-a_b g/ask-home-ssh g/both"
    );
    assert_eq!(exec, "g/ask-home-ssh-run g/both-run");
    assert_eq!(network, "g/allow-example.org-443 g/both-network");
    let (policy, _) = converted(Source::KubeArmor, BLOCK);
    let [files, exec, _] = names(&policy);
    assert!(files.starts_with("block_things/deny-etc-hosts block_things/deny-etc-pass-wd "), "{files}");
    assert_eq!(exec, "block_things/deny-bin-sleep block_things/deny-opt-nc-x block_things/deny-usr-bin-wget");
}

#[test]
fn what_may_be_read_and_written_stays_so_in_kubearmor() {
    use Access::{Create, Delete, Read, Write};
    let policy = parse(
        r#"
version: 1
name: learned
files:
  default: deny
  rules:
    - { name: work, allow: [all], path: ["/work/**"] }
    - { name: temporary, allow: [read, write, create, delete], path: ["{/tmp,/var/tmp}/**"] }
    - { name: machine, allow: [read, write], path: ["/dev/null"] }
    - { name: machine-read, allow: [read], path: ["/usr/**"] }
    - { name: code, allow: [load], path: ["/usr/**", "/opt/lib.so"] }
    - { name: log-read, allow: [read], path: ["/log/**"] }
    - { name: log, allow: [write, create], path: ["/log/**"] }
    - { name: names, allow: [read, create], path: ["/names/**"] }
    - { name: drop, allow: [write], path: ["/drop"] }
"#,
    );
    let Converted { text, remarks } = to_kubearmor(&policy, &[]);
    let allow =
        text.split("---\n").find(|document| document.contains("action: Allow")).expect("one that allows");
    let (back, _) = converted(Source::KubeArmor, allow);
    for path in ["/work/a", "/tmp/a", "/var/tmp/a", "/log/a"] {
        for access in [Read, Write, Create, Delete] {
            assert_eq!(file(&back, access, path, ""), Decision::Allow, "{access} {path}");
        }
    }
    for (access, path, decision) in [
        (Write, "/dev/null", Decision::Allow),
        (Read, "/usr/a", Decision::Allow),
        (Write, "/usr/a", Decision::Deny),
        (Read, "/opt/lib.so", Decision::Deny),
        (Read, "/names/a", Decision::Allow),
        (Create, "/names/a", Decision::Deny),
        (Write, "/drop", Decision::Deny),
    ] {
        assert_eq!(file(&back, access, path, ""), decision, "{access} {path}");
    }
    assert_eq!(allow.matches("/log/").count(), 1, "each entry once: {allow}");
    let told = remarks.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    for says in [
        "WIDER: rule `learned/temporary`: reading and writing have one word there, which also allows `attributes`",
        "WIDER: rule `learned/machine`: reading and writing have one word there, which also allows `create`, `delete`, `attributes`",
        "WIDER: rule `learned/log`: reading and writing",
        "WIDER: what may be read may be loaded as code there, which is `load` here",
        "stricter: rule `learned/code` allows to load code, which has no word there: it is left out",
        "stricter: rule `learned/names` allows changes, but not to write: it allows reading only",
        "stricter: rule `learned/drop` allows changes without reading: it is left out",
    ] {
        assert!(told.contains(says), "{says} in\n{told}");
    }
    assert!(!told.contains("learned/work`: reading and writing"), "{told}");
}

fn mapping(text: &str) -> String {
    if text.starts_with('{') { text.to_owned() } else { format!("{{ {text} }}") }
}

#[test]
fn what_is_not_of_the_language_is_an_error_with_its_place() {
    for (source, text, says) in [
        (Source::KubeArmor, "kind: Pod\nspec: {}\n", "f.yaml:1:1: `kind` must be"),
        (Source::KubeArmor, "kind: KubeArmorPolicy\nspec: { fil: {} }\n", "f.yaml:2:9: `fil` is no part"),
        (Source::KubeArmor, "kind: KubeArmorPolicy\nspec: { action: Deny }\n", "Allow, Audit or Block"),
        (
            Source::KubeArmor,
            "kind: KubeArmorPolicy\nspec: { file: { matchPaths: [{ pth: x }] } }\n",
            "`path` is missing",
        ),
        (Source::Gateway, "rules: [{ path_prefix: /x }]\n", "`action` is missing"),
        (Source::Gateway, "rules: [{ action: MAYBE }]\n", "ALLOW, HUMAN_APPROVAL or BLOCK"),
        (Source::Gateway, "rules: {}\n", "must be a list"),
        (
            Source::Gateway,
            "rules: []\npolicies: [{ action: BLOCK, path_prefix: /x }]\n",
            "f.yaml:2:1: `rules` or",
        ),
        (
            Source::Gateway,
            "rules: [{ action: ALLOW, destination_domain: a.example, destination_port: 1, match: { destination_port: 2 } }]\n",
            "one `destination_port`",
        ),
        (Source::Gateway, "a: &x 1\nrules: []\n", "f.yaml:1:4"),
    ] {
        let error = from(source, "f.yaml", text.as_bytes()).expect_err(text).to_string();
        assert!(error.contains(says), "{says} in {error}");
    }
    assert_eq!(recognise(b"version: 1\nname: p\nfiles: { default: allow }\n"), None);
}

const OURS: &str = r#"
version: 1
name: Our_policy
files:
  default: allow
  rules:
    - { name: keys, deny: [all], path: ["${HOME}/.ssh/**", "**/*.pem", "/etc/shadow"] }
    - { name: frozen, deny: [write, create, delete, attributes], path: ["/etc/hosts"], by: ["/bin/sh"] }
    - { name: partly, deny: [write], path: ["/p"], except: ["/p/x"] }
    - { name: asked, ask: [read], path: ["/q"] }
    - { name: soon, deny: [all], path: ["/soon"], mode: audit }
    - { name: odd, deny: [all], path: ["/x/[ab]"] }
exec:
  default: allow
  rules:
    - { name: wget, deny: [run], path: ["/usr/bin/wget"] }
    - { name: bad, deny: [run], sha256: ["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"] }
network:
  default: deny
  rules: [{ name: api, allow: [connect], to: ["10.0.0.0/8"] }]
"#;

#[test]
fn ours_becomes_kubearmor_documents_that_read_back_no_wider() {
    let policy = parse(OURS);
    let labels = [("app".to_owned(), "agent".to_owned())];
    let Converted { text, remarks } = to_kubearmor(&policy, &labels);
    let documents: Vec<&str> = text.split("---\n").collect();
    assert_eq!(documents.len(), 2, "{text}");
    let block =
        documents.iter().find(|document| document.contains("action: Block")).expect("one that blocks");
    let value: Value = serde_yaml::from_str(block).expect("YAML");
    assert_eq!(value["metadata"]["name"], "our-policy-block");
    assert_eq!(value["spec"]["selector"]["matchLabels"]["app"], "agent");
    let (back, _) = converted(Source::KubeArmor, block);
    let accesses: Vec<Access> =
        policy::SectionKind::Files.accesses().iter().filter(|a| *a != Access::Load).collect();
    for path in [
        "/home/u/.ssh",
        "/home/u/.ssh/id",
        "/a/b.pem",
        "/b.pem",
        "/etc/shadow",
        "/etc/hosts",
        "/p",
        "/p/x",
        "/q",
        "/y",
    ] {
        for access in &accesses {
            for exe in ["/bin/sh", "/bin/cat"] {
                let (ours, theirs) = (file(&policy, *access, path, exe), file(&back, *access, path, exe));
                assert!(
                    theirs == Decision::Deny || ours == Decision::Allow,
                    "{access} {path} by {exe} is wider"
                );
            }
        }
    }
    assert_eq!(file(&back, Access::Read, "/y", ""), Decision::Allow);
    assert_eq!(file(&back, Access::Read, "/etc/hosts", "/bin/sh"), Decision::Allow);
    assert!(block.contains("protocol: TCP") && block.contains("protocol: ICMP"), "{block}");
    let told = |says: &str, effect: Effect| {
        let found = remarks.iter().any(|remark| remark.effect == effect && remark.text.contains(says));
        assert!(found, "{says} in {remarks:?}");
    };
    told("rule `Our_policy/partly` has exceptions", Effect::Stricter);
    told("rule `Our_policy/partly` denies some accesses", Effect::Stricter);
    told("rule `Our_policy/asked` asks", Effect::Stricter);
    told("rule `Our_policy/odd`: `/x/[ab]` has no form there", Effect::Wider);
    told("rule `Our_policy/bad` is about contents", Effect::Wider);
    told("rule `Our_policy/api` allows some ends", Effect::Stricter);
    told("`kernel`", Effect::Wider);
}
