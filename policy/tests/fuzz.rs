//! The bodies of the fuzz targets over generated and damaged inputs: a bounded number, the same ones each time.
//! `FUZZ_CASES=100000 cargo test -p policy --test fuzz` tries more.

#[path = "../../fuzz/bodies/pattern.rs"]
mod pattern;
#[path = "../../fuzz/bodies/plan.rs"]
mod plan;
#[path = "../../fuzz/bodies/policy_text.rs"]
mod policy_text;

use policy_text::Outcome;

/// A plain generator (xorshift64*), so that a failing case can be made again from its number.
struct Dice(u64);

impl Dice {
    fn new(case: u64) -> Self {
        Self(case.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }

    fn some(&mut self, of: &[&str], most: usize) -> String {
        let count = 1 + self.below(most);
        let all: Vec<String> = (0..count).map(|_| format!("\"{}\"", self.one(of))).collect();
        all.join(", ")
    }
}

const PATHS: &[&str] = &[
    "/etc/**",
    "/etc/shadow",
    "${HOME}/.ssh/**",
    "${HOME}/*",
    "**/*.pem",
    "/a/{b,c}/**",
    "/a/[!x-z]?/**/d",
    "@keys",
    "@credentials",
    "@persistence",
    "${WORKSPACE}/**",
    "${GIT_DIR:-none}/**",
    "${V}/x",
    "/x**y",
    "/\\\\x41",
    "/**",
    "/proc/[0-9]*/**",
    "/é",
];
const ODD_PATHS: &[&str] =
    &["/proc/self/x", "etc", "/a//b", "${NOPE}", "@nothing", "/a/../b", "[", "", "~/x", "/***"];
const TARGETS: &[&str] = &[
    "any",
    "localhost:80",
    "10.0.0.0/8:1-9/tcp",
    "[::1]:443",
    "own:1024-65535",
    "unix:/run/x/**",
    "unix:@n*",
    "@npm",
    "@mine",
    "*.example.com:443",
    "unix:${env.SSH_AUTH_SOCK:-none}",
    "example.com",
];
const ODD_TARGETS: &[&str] =
    &["http://x", "10.0.0.1/8", "any:99999", "*", "a.*.b", "unix:x", "@keys", "::1:80"];

/// A policy, most often a right one.
fn policy(dice: &mut Dice, name: &str, extends: &str) -> String {
    let odd = if dice.chance(30) { 8 } else { 0 };
    let mut text = format!("version: 1\nname: {name}\n");
    if !extends.is_empty() {
        text.push_str(&format!("extends: [{extends}]\n"));
    }
    text.push_str("vars: { V: \"${HOME}/v\" }\n");
    text.push_str("groups: { keys: [\"/k/**\", \"@more\"], more: [\"**/m\"], mine: [\"10.9.0.0/16\"] }\n");
    if dice.chance(10) {
        text.push_str("mode: audit\n");
    }
    for (section, accesses, object) in [
        ("files", &["read", "write", "create", "delete", "attributes", "load", "all"][..], "path"),
        ("exec", &["run", "all"][..], "path"),
        ("network", &["connect", "send", "bind", "listen", "all"][..], "to"),
    ] {
        if dice.chance(20) {
            continue;
        }
        text.push_str(&format!("{section}:\n  default: {}\n  rules:\n", dice.one(&["allow", "deny"])));
        let (good, bad) = if object == "to" { (TARGETS, ODD_TARGETS) } else { (PATHS, ODD_PATHS) };
        for number in 0..1 + dice.below(3) {
            let effect = dice.one(&["allow", "deny", "ask"]);
            let list = |dice: &mut Dice| {
                let from = if dice.chance(odd) { bad } else { good };
                dice.some(from, 3)
            };
            let mut rule = format!("name: {section}{number}, {effect}: [{}], ", dice.one(accesses));
            rule.push_str(&format!("{object}: [{}]", list(dice)));
            if dice.chance(30) {
                rule.push_str(&format!(", except: [{}]", list(dice)));
            }
            for key in ["by", "unless_by", "under"] {
                if dice.chance(10) {
                    rule.push_str(&format!(", {key}: [{}]", dice.some(PATHS, 2)));
                }
            }
            if effect != "allow" && dice.chance(15) {
                rule.push_str(", mode: audit");
            }
            if effect == "ask" && dice.chance(50) {
                rule.push_str(", timeout: 90s");
            }
            if dice.chance(30) {
                rule.push_str(&format!(
                    ", because: {}",
                    dice.one(&["x", "\"é \\\\ \\\" 'q'\"", "\"a: b\"", "no"])
                ));
            }
            text.push_str(&format!("    - {{ {rule} }}\n"));
        }
        if !extends.is_empty() && section == "files" && dice.chance(60) {
            let amended = dice.one(&["base/credentials", "base/persistence", "one/files0", "base/nothing"]);
            let how = dice.one(&["disable: true", "except: [\"/z/**\"]", "except: [\"@keys\"]"]);
            text.push_str(&format!("    - {{ amend: {amended}, {how} }}\n"));
        }
    }
    if dice.chance(40) {
        text.push_str(dice.one(&[
            "kernel: { allow: [mount, ptrace-own] }\n",
            "syscalls: { deny: [bpf] }\n",
            "limits: { memory: 4GiB, time: 90m }\n",
            "env: { drop: [\"*_TOKEN\"], set: { CI: \"1\" } }\n",
            "limits: { memory: 4 }\n",
            "landlock: maybe\n",
            "tmp: private\n",
            "tmp: { size: 1GiB }\n",
        ]));
    }
    if dice.chance(50) {
        let verdict = dice.one(&["allow", "deny", "ask"]);
        text.push_str("examples:\n");
        text.push_str(&format!(
            "  - {{ open: \"${{HOME}}/.ssh/id\", access: [read, write], verdict: {verdict} }}\n"
        ));
        text.push_str(&format!(
            "  - {{ connect: \"10.9.1.1:443\", host: example.com, by: /bin/x, verdict: {verdict} }}\n"
        ));
        text.push_str(&format!("  - {{ bind: \"unix:/run/x/y\", under: [/a, /b], verdict: {verdict} }}\n"));
    }
    text
}

/// Changes, doubles, moves or takes away a few pieces.
fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    for _ in 0..1 + dice.below(3) {
        let at = dice.below(bytes.len().max(1)).min(bytes.len());
        let end = (at + dice.below(12)).min(bytes.len());
        match dice.below(5) {
            0 => drop(bytes.drain(at..end)),
            1 => {
                let piece = bytes[at..end].to_vec();
                bytes.splice(at..at, piece);
            }
            2 if at < bytes.len() => bytes[at] = dice.next() as u8,
            3 => {
                let piece = dice.one(&[
                    "[", "]", "{", "}", ": ", ", ", "\"", "\n  ", "&a ", "*a", "!x ", "- ", "\u{202e}",
                ]);
                bytes.splice(at..at, piece.bytes());
            }
            _ => bytes.truncate(end),
        }
    }
}

fn cases(usual: u64) -> u64 {
    std::env::var("FUZZ_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

#[test]
fn policies_of_any_kind_are_read_or_refused() {
    let (mut read, mut refused) = (0, 0);
    for case in 0..cases(600) {
        let dice = &mut Dice::new(case + 1);
        let extends =
            dice.one(&["", "", "./1.yaml", "base@1", "./1.yaml, strict@1", "./1.yaml, ./2.yaml", "./0.yaml"]);
        let mut bytes = policy(dice, "own", extends).into_bytes();
        for name in ["one", "two"] {
            bytes.push(0);
            let inner = dice.one(&["", "", "base@1", "./2.yaml"]);
            bytes.extend(policy(dice, name, inner).bytes());
        }
        if dice.chance(40) {
            damage(dice, &mut bytes);
        }
        let outcome = std::panic::catch_unwind(|| policy_text::run(&bytes));
        match outcome {
            Ok(Outcome::Read) => read += 1,
            Ok(Outcome::Refused) => refused += 1,
            Err(_) => panic!("case {case}:\n{}", String::from_utf8_lossy(&bytes)),
        }
    }
    // Neither kind is rare, or the generator has lost its use.
    assert!(read * 6 > refused && refused * 6 > read, "{read} read, {refused} refused");
}

#[test]
fn patterns_and_paths_of_any_kind_agree() {
    const PIECES: &[&str] = &[
        "/", "/", "/", "a", "b", "*", "**", "?", "[ab]", "[!a]", "{a,b}", "{,a}", "\\", "\\x41", "\\/", "é",
        ".", "..", "-", "]", ",", "}", "$", "**/", "/**", "\n",
    ];
    let mut read = 0;
    for case in 0..cases(20_000) {
        let dice = &mut Dice::new(case + 1);
        let mut bytes = b"/".to_vec();
        (0..dice.below(9)).for_each(|_| bytes.extend(dice.one(PIECES).bytes()));
        bytes.push(0);
        (0..dice.below(12))
            .for_each(|_| bytes.extend(dice.one(&["a", "b", "/", "A", "é", ".", "\n"]).bytes()));
        match std::panic::catch_unwind(|| pattern::run(&bytes)) {
            Ok(true) => read += 1,
            Ok(false) => {}
            Err(_) => panic!("case {case}: {}", bytes.escape_ascii()),
        }
    }
    assert!(read > cases(20_000) / 10, "{read} patterns were read");
}

#[test]
fn damaged_plans() {
    use policy::compile::lsm::{SetTable, compile};
    let text = "version: 1\nname: p\nfiles: { default: deny, rules: [{ name: r, allow: [read], path: [\"/a/**\", \"**/*.pem\"], \
                by: [\"**/git\"] }] }\nnetwork: { default: deny, rules: [{ name: net, allow: [connect], to: [\"127.0.0.1:80\"] }] }\n";
    let policy = policy::Policy::parse("p", text, &policy::Variables::new()).unwrap();
    let whole = compile(&[&policy], 1, &mut SetTable::new()).unwrap().to_bytes();
    assert!(plan::run(&whole));
    let mut read = 0;
    for case in 0..cases(500) {
        let mut dice = Dice::new(case);
        let mut bytes = whole.clone();
        for _ in 0..1 + dice.below(40) {
            let at = dice.below(bytes.len());
            bytes[at] = dice.next() as u8;
        }
        if dice.chance(10) {
            bytes.truncate(dice.below(bytes.len()));
        }
        read += usize::from(plan::run(&bytes));
    }
    assert!(read > 20, "most are still tables");
}
