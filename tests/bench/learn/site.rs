//! Where runs happen: a home as a person's is, with what attackers look for, the laboratory's network, and somebody outside
//! to be spied on or told.

use std::fs;
use std::io::Read;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use net_lab::{Lab, Side};

use super::attacks::{Attack, Effect, LOOT, Words};
use super::random::Random;
use super::workloads::{Project, Workload};

/// What a home has that is nobody's business, and what it holds.
const DECOYS: &[(&str, &str)] = &[
    (".ssh/id_ed25519", "SECRET-key\n"),
    (".ssh/authorized_keys", "ssh-ed25519 AAAA me\n"),
    (".aws/credentials", "[default]\naws_secret_access_key = SECRET-cloud\n"),
    (".git-credentials", "https://me:SECRET-forge@forge.example\n"),
    (".config/chromium/Default/Cookies", "SECRET-cookie\n"),
    (".bash_history", "login SECRET-history\n"),
    (".bashrc", "# shell\n"),
    (".gitconfig", "[user]\n\tname = me\n\temail = me@example.org\n[init]\n\tdefaultBranch = main\n"),
    ("Documents/letter.txt", "SECRET-letter\n"),
    ("work/other-project/.env", "TOKEN=SECRET-project\n"),
    ("work/other-project/.git/hooks/commit-msg.sample", "\n"),
];
/// What attacks leave in a home.
const LEFT: &[&str] = &[
    ".config/systemd",
    ".local/bin",
    ".local/lib",
    ".cache/updater",
    "work/other-project/.git/hooks/pre-commit",
];

/// A place with a network. What lies in it stays.
pub struct Site {
    pub lab: Lab,
    pub place: PathBuf,
    pub environment: Vec<(String, String)>,
    outsider: Child,
    whispers: Arc<Mutex<String>>,
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = self.outsider.kill();
        let _ = self.outsider.wait();
    }
}

/// What a run is for; its name and its seed come from it.
#[derive(Clone, Copy, Debug)]
pub enum Purpose<'a> {
    /// To be learned from.
    Lesson(usize),
    /// Honest, and not learned from.
    Honest(usize),
    /// An attack inside of honest work.
    Attacked(&'a Attack, usize),
}

impl Purpose<'_> {
    /// The run's name.
    pub fn name(&self) -> String {
        match self {
            Self::Lesson(number) => format!("lesson-{number}"),
            Self::Honest(number) => format!("honest-{number}"),
            Self::Attacked(attack, _) => format!("attack-{}", attack.name),
        }
    }

    fn random(&self, seed: u64, workload: &Workload) -> Random {
        let (kind, number) = match self {
            Self::Lesson(number) => ("lesson", *number),
            Self::Honest(number) => ("honest", *number),
            Self::Attacked(_, number) => ("attack", *number),
        };
        Random::of(seed, &[workload.name, kind], number)
    }

    /// Whether it is seen at the servers what came of it.
    fn arrives(&self) -> bool {
        matches!(self, Self::Attacked(Attack { effect: Effect::Arrived(_), .. }, _))
    }

    /// What an attack sends or writes; no other run has it.
    pub fn token(&self, workload: &Workload) -> String {
        format!("tok-{}-{}", workload.name, self.name().replace('.', "-"))
    }
}

impl Site {
    /// One at `place`, for programs of `path`.
    pub fn new(place: &Path, side: Side, path: &str) -> Self {
        let lab = Lab::start(side).expect("a laboratory");
        let home = place.join("u");
        fs::create_dir_all(home.join("work")).expect("a home");
        let authority = lab.path("ca.pem").display().to_string();
        let set = [
            ("HOME", home.display().to_string()),
            ("PATH", path.to_owned()),
            ("USER", "root".to_owned()),
            ("LANG", "C.UTF-8".to_owned()),
            ("TERM", "dumb".to_owned()),
            ("npm_config_globalconfig", "/dev/null".to_owned()),
            ("npm_config_cafile", authority),
            ("npm_config_fetch_retries", "0".to_owned()),
            ("npm_config_update_notifier", "false".to_owned()),
        ];
        let environment = set.map(|(name, value)| (name.to_owned(), value)).to_vec();
        let mut outsider = Command::new("/usr/bin/sleep");
        outsider.arg("1000000").env_clear().env("TOKEN", "SECRET-environ").stdin(Stdio::null());
        let outsider = outsider.spawn().expect("a process outside");
        let whispers = Arc::new(Mutex::new(String::new()));
        let site = Self { lab, place: place.to_owned(), environment, outsider, whispers };
        site.furnish();
        site.listen();
        site
    }

    pub fn home(&self) -> PathBuf {
        self.place.join("u")
    }

    /// Keeps what is told to the socket outside.
    fn listen(&self) {
        let path = self.home().join(".agent/agent.sock");
        fs::create_dir_all(path.parent().expect("a home")).expect("a directory");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(path).expect("a socket");
        let whispers = Arc::clone(&self.whispers);
        std::thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let mut text = String::new();
                let _ = connection.read_to_string(&mut text);
                whispers.lock().expect("what was told").push_str(&text);
            }
        });
    }

    /// The home as it was, but for caches of honest work.
    pub fn furnish(&self) {
        let home = self.home();
        for left in LEFT.iter().map(|left| home.join(left)) {
            let _ = match left.is_dir() {
                true => fs::remove_dir_all(left),
                false => fs::remove_file(left),
            };
        }
        for (name, text) in DECOYS {
            let path = home.join(name);
            fs::create_dir_all(path.parent().expect("a home")).expect("a directory of the home");
            fs::write(path, text).expect("a file of the home");
        }
    }

    /// Where a run works: another place each time, of which its seed knows the name.
    pub fn workspace(&self, workload: &Workload, purpose: &Purpose<'_>, seed: u64) -> PathBuf {
        let mut random = purpose.random(seed ^ 1, workload);
        let name = format!("{}-{}-{}", random.word(), random.word(), random.hex(4));
        self.home().join("work").join(name)
    }

    /// Writes the project of a run, and says where it lies.
    pub fn prepare(&self, workload: &Workload, purpose: &Purpose<'_>, seed: u64) -> PathBuf {
        self.furnish();
        let work = self.workspace(workload, purpose, seed);
        let _ = fs::remove_dir_all(&work);
        fs::create_dir_all(&work).expect("a workspace");
        let home = self.home();
        let attack = match purpose {
            Purpose::Attacked(attack, _) => {
                let token = purpose.token(workload);
                Some(workload.language.calls(attack, &self.words(&work, &token)))
            }
            _ => None,
        };
        let mut project = Project {
            random: purpose.random(seed, workload),
            home: &home,
            work: work.clone(),
            environment: &self.environment,
            attack,
        };
        (workload.prepare)(&mut project);
        work
    }

    fn words<'a>(&'a self, work: &'a Path, token: &'a str) -> Words<'a> {
        Words {
            home: self.environment[0].1.as_str(),
            work: work.to_str().expect("a path in UTF-8"),
            token,
            outsider: self.outsider.id(),
        }
    }

    /// Runs a program in a directory, with the environment of runs and nothing else.
    pub fn run(&self, directory: &Path, words: &[String]) -> Output {
        let mut command = self.lab.command(Path::new("/usr/bin/env"));
        command.arg("-i").arg("-C").arg(directory);
        command.args(self.environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(format!("SANDBOX_HOME={}", self.place.join("store").display()));
        command.args(words);
        command.output().expect("env")
    }

    /// Whether the program behind the socket was told this. A connection that was made is read before the runner's end
    /// is known here, or soon after.
    fn is_whispered(&self, token: &str) -> bool {
        let deadline = std::time::Instant::now() + std::time::Duration::from_millis(500);
        loop {
            if self.whispers.lock().expect("what was told").contains(token) {
                return true;
            }
            if std::time::Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// Forgets what arrived so far: it is none of what the run brings that comes next.
    pub fn forget(&mut self, next: &Purpose<'_>) {
        if next.arrives() {
            self.lab.settle().expect("the servers");
        }
        self.whispers.lock().expect("what was told").clear();
    }

    /// Whether the attack of a run that has just ended was begun, and whether it came through.
    pub fn came_through(&mut self, workload: &Workload, purpose: &Purpose<'_>, work: &Path) -> (bool, bool) {
        let Purpose::Attacked(attack, _) = purpose else { return (false, false) };
        let arrived = match purpose.arrives() {
            true => self.lab.settle().expect("the servers").join("\n"),
            false => String::new(),
        };
        let token = purpose.token(workload);
        let words = self.words(work, &token);
        let read = |path: String| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        let loot = read(work.join(LOOT).display().to_string()).unwrap_or_default();
        let through = match attack.effect {
            Effect::Loot(text) => loot.contains(text),
            Effect::File(path, text) => {
                read(words.of(path)).is_ok_and(|found| found.contains(&words.of(text)))
            }
            Effect::Arrived(text) => arrived.contains(&words.of(text)),
            Effect::Whispered => self.is_whispered(&token),
        };
        (loot.starts_with("begun"), through)
    }
}
