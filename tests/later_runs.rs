//! What a run under `coding-agent` writes chooses nothing for the next one: not which directories are its own, nor whether
//! it starts, nor what its user runs later. Each attempt with its errno and its control, without hooks, for root and an
//! ordinary user.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use sandbox_tests::binaries::binary;
use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Done, finish};
use tempfile::TempDir;

const NEEDS: &[Need<'_>] =
    &[Need::Trace, Need::Program("python3"), Need::Program("git"), Need::Program("setpriv")];

/// Without hooks, also where the machine has them.
const LAYERS: [&str; 2] = ["--layers", "trace,landlock,mountns,netns"];

/// Appends to each file that is named, and prints its name and 0 or the errno.
const APPEND: &str = "
import errno, os, sys
for name in sys.argv[1:]:
    try:
        os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, 'a') as file:
            file.write('# more\\n')
        print(name, 0, sep='\\t')
    except OSError as error:
        print(name, errno.errorcode[error.errno], sep='\\t')
";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Root,
    User,
}

/// A home below /home, with workspaces in it: temporary places are open as a whole.
struct Site {
    top: TempDir,
    who: Who,
}

impl Site {
    fn new(who: Who) -> Site {
        let top = tempfile::Builder::new().prefix("sandbox-test-").tempdir_in("/home").expect("a home");
        let site = Site { top, who };
        fs::set_permissions(site.top.path(), fs::Permissions::from_mode(0o755)).expect("its mode");
        for directory in ["bin", "store", "home/.cache", "home/work"] {
            fs::create_dir_all(site.path(directory)).expect("a directory");
        }
        fs::copy(binary("sandbox"), site.path("bin/sandbox")).expect("a binary that the user can read");
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.top.path().join(name)
    }

    /// All that was made so far is the user's.
    fn give(&self) {
        if self.who == Who::User {
            let mut command = Command::new("chown");
            command.args(["-R", "65534:65534"]).arg(self.path("home")).arg(self.path("store"));
            finish(command).expect(0);
        }
    }

    /// Files in the home, with something in them.
    fn write(&self, names: &[&str]) {
        for name in names {
            let path = self.path("home").join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(path, "# settings\n").expect("a file");
        }
    }

    /// A program as the user, in a directory of the home.
    fn command<S: AsRef<OsStr>>(&self, directory: &str, words: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new("/usr/bin/setpriv");
        match self.who {
            Who::Root => command.args(["--"]),
            Who::User => command.args([
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                "--inh-caps=-all",
                "--bounding-set=-all",
                "--",
            ]),
        };
        command.args(words).current_dir(self.path("home").join(directory));
        for name in ["SUDO_UID", "SUDO_GID", "SUDO_USER", "SUDO_COMMAND", "TMPDIR", "LD_LIBRARY_PATH"] {
            command.env_remove(name);
        }
        command.env("HOME", self.path("home")).env("SANDBOX_HOME", self.path("store"));
        command.env("PATH", "/usr/sbin:/usr/bin").env("NO_COLOR", "1");
        command
    }

    /// A command in an enforced run.
    fn run<S: AsRef<OsStr>>(
        &self,
        policy: &str,
        directory: &str,
        words: impl IntoIterator<Item = S>,
    ) -> Done {
        let mut all = vec![self.path("bin/sandbox").into_os_string()];
        all.extend(["run", "--enforce", policy].map(Into::into));
        if self.who == Who::Root {
            all.extend(LAYERS.map(Into::into));
        }
        all.push("--".into());
        all.extend(words.into_iter().map(|word| word.as_ref().to_owned()));
        finish(self.command(directory, all)).expect(0)
    }

    /// What comes of appending to these files of the home in a run, and the run.
    fn append(&self, policy: &str, directory: &str, names: &[&str]) -> (BTreeMap<String, String>, Done) {
        let mut words = ["/usr/bin/python3", "-c", APPEND].map(OsStr::new).map(OsStr::to_owned).to_vec();
        words.extend(names.iter().map(|name| self.path("home").join(name).into_os_string()));
        let done = self.run(policy, directory, words);
        let home = format!("{}/", self.path("home").display());
        let lines = done.stdout.lines().filter_map(|line| line.split_once('\t'));
        let found = lines
            .map(|(name, result)| (name.strip_prefix(&home).unwrap_or(name).to_owned(), result.to_owned()));
        (found.collect(), done)
    }
}

fn git(site: &Site, directory: &str, words: &[&str]) {
    let words = ["git", "-c", "user.name=a", "-c", "user.email=a@b"].iter().chain(words);
    finish(site.command(directory, words)).expect(0);
}

/// A directory of the user's that looks as much like a repository as one may by accident.
fn private(site: &Site, name: &str) {
    for directory in ["objects", "refs"] {
        fs::create_dir_all(site.path("home").join(name).join(directory)).expect("a directory");
    }
    site.write(&[&format!("{name}/HEAD")]);
}

#[test]
fn a_run_does_not_choose_what_the_next_one_may_write() {
    if !met("a_run_does_not_choose_what_the_next_one_may_write", NEEDS) {
        return;
    }
    for who in [Who::Root, Who::User] {
        let site = Site::new(who);
        for name in ["private", "worktrees/private"] {
            private(&site, name);
        }
        for work in ["origin", "plain"] {
            fs::create_dir_all(site.path("home/work").join(work)).expect("a directory");
        }
        site.give();
        git(&site, "work/origin", &["init", "-q"]);
        git(&site, "work/origin", &["commit", "-q", "--allow-empty", "-m", "first"]);
        for side in ["side", "other"] {
            git(&site, "work/origin", &["worktree", "add", "-q", &format!("../{side}")]);
        }
        let home = site.path("home").display().to_string();
        // What a run before this one writes, and it may.
        let forged = [
            (
                "coding-agent",
                "work/origin",
                format!("echo {home}/private > .git/commondir"),
                ".git/commondir",
            ),
            ("coding-agent", "work/side", format!("echo gitdir: {home}/private > .git"), "work/side/.git"),
            ("ci-job", "work/side", format!("rm .git; ln -s {home}/private .git"), "work/side/.git"),
            ("coding-agent", "work/plain", format!("echo gitdir: {home}/private > .git"), "work/plain/.git"),
            (
                "coding-agent",
                "work/plain",
                format!("echo gitdir: {home}/worktrees/private > .git"),
                "work/plain/.git",
            ),
        ];
        for (policy, work, script, named) in forged {
            site.run(policy, work, ["/bin/sh", "-c", &script]);
            let own = format!("{work}/own");
            let places = ["private/made", "worktrees/private/made", "refs/made", &own];
            let (found, done) = site.append(policy, work, &places);
            for place in &places[..2] {
                assert_eq!(found[*place], "EACCES", "{who:?}: {script}: {place}\n{}", done.stderr);
                assert!(!site.path("home").join(place).exists());
            }
            assert_eq!(found[&own], "0", "{who:?}: {script}\n{}", done.stderr);
            assert!(done.stderr.contains(named), "{who:?}: {script}\n{}", done.stderr);
        }
        // A worktree that is one works, in what belongs to it, and nothing is told.
        let script =
            "git -c user.name=a -c user.email=a@b commit -q --allow-empty -m second && git log --oneline";
        fs::remove_file(site.path("home/work/origin/.git/commondir")).expect("it was made");
        let done = site.run("coding-agent", "work/other", ["/bin/sh", "-c", script]);
        assert_eq!(done.stdout.lines().count(), 2, "{who:?}: {}\n{}", done.stdout, done.stderr);
        assert!(!done.stderr.contains("repository"), "{who:?}: {}", done.stderr);
        let (found, done) = site.append("coding-agent", "work/other", &["work/origin/x", "private/made"]);
        assert!(found.values().all(|result| result == "EACCES"), "{who:?}: {found:?}\n{}", done.stderr);
    }
}

#[test]
fn a_name_that_is_no_text_does_not_keep_the_next_run_from_starting() {
    if !met("a_name_that_is_no_text_does_not_keep_the_next_run_from_starting", NEEDS) {
        return;
    }
    for who in [Who::Root, Who::User] {
        let site = Site::new(who);
        site.give();
        let directory = OsStr::from_bytes(b"d\xff/.git");
        let made = Path::new(directory).join("config");
        let first = "mkdir -p \"$1\" && echo '# settings' > \"$1/config\" && echo more >> \"$1/config\"";
        let words = |script: &'static str| ["/bin/sh", "-c", script, "sh"].map(OsStr::new);
        site.run("coding-agent", "work", words(first).into_iter().chain([directory]));
        // Now it was there before.
        let next = "cat \"$1\"; (echo again >> \"$1\") 2>&1; echo \"$1\" > own && echo goes on";
        let done = site.run("coding-agent", "work", words(next).into_iter().chain([made.as_os_str()]));
        let lines: Vec<_> = done.stdout.lines().collect();
        assert_eq!(lines.first(), Some(&"# settings"), "{who:?}: {}", done.stdout);
        assert!(done.stdout.contains("Read-only file system"), "{who:?}: {}", done.stdout);
        assert_eq!(lines.last(), Some(&"goes on"), "{who:?}: {}", done.stdout);
        let kept = fs::read(site.path("home/work").join(&made)).expect("it is there");
        assert_eq!(kept, b"# settings\nmore\n");
    }
}

/// Programs and settings that the user, or the agent outside of the run, runs later.
const LATER: &[(&str, &str)] = &[
    (".local/share/claude/versions/2.0", "EACCES"),
    (".local/bin/claude", "EACCES"),
    (".claude/local/claude", "EROFS"),
    (".claude/plugins/x/hooks.json", "EROFS"),
    (".claude/hooks/x", "EROFS"),
    (".claude/settings.json", "EROFS"),
    (".codex/config.toml", "EROFS"),
    (".gemini/settings.json", "EROFS"),
    (".gemini/extensions/x/gemini-extension.json", "EROFS"),
    (".cursor/mcp.json", "EROFS"),
    (".cursor/hooks.json", "EROFS"),
    (".copilot/mcp-config.json", "EROFS"),
    (".copilot/pkg/universal/1/index.js", "EROFS"),
    (".config/goose/config.yaml", "EROFS"),
    (".config/opencode/opencode.json", "EROFS"),
    (".config/opencode/plugin/x.ts", "EROFS"),
    (".opencode/bin/opencode", "EROFS"),
    (".aider.conf.yml", "EACCES"),
    (".gradle/init.d/x.gradle", "EACCES"),
    (".gradle/gradle.properties", "EACCES"),
    (".yarn/releases/yarn.cjs", "EACCES"),
    (".bundle/config", "EACCES"),
    (".nuget/NuGet/NuGet.Config", "EACCES"),
    (".local/share/virtualenvs/v/bin/activate", "EACCES"),
    ("work/.cursor/mcp.json", "EROFS"),
    ("work/.vscode/mcp.json", "EROFS"),
];

/// State and caches, which are the run's to write; `.claude.json` also where that is a loss, as docs/policy.md says.
const NOW: &[&str] = &[
    ".claude/projects/x.jsonl",
    ".claude.json",
    ".local/state/claude/locks/x",
    ".local/share/goose/sessions/x",
    ".aider.input.history",
    ".gradle/caches/8/x",
    ".yarn/berry/cache/x.zip",
    ".bundle/cache/x",
    ".nuget/packages/x/1/x.nupkg",
    ".cache/x/y",
    "work/src/main.rs",
];

#[test]
fn a_run_does_not_change_what_its_user_runs_later() {
    if !met("a_run_does_not_change_what_its_user_runs_later", NEEDS) {
        return;
    }
    for who in [Who::Root, Who::User] {
        let site = Site::new(who);
        let later: Vec<&str> = LATER.iter().map(|(name, _)| *name).collect();
        let all = [&later[..], NOW].concat();
        site.write(&all);
        let program = site.path("home/.local/share/claude/versions/2.0");
        fs::write(&program, "#!/bin/sh\necho the agent\n").expect("a program");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("its mode");
        site.give();
        let contents = || {
            let read = |name: &&str| fs::read(site.path("home").join(name)).expect("it is there");
            later.iter().map(read).collect::<Vec<_>>()
        };
        let before = contents();
        let (found, done) = site.append("coding-agent", "work", &all);
        for (name, errno) in LATER {
            assert_eq!(found[*name], *errno, "{who:?}: {name}\n{}", done.stderr);
        }
        assert_eq!(contents(), before, "{who:?}");
        for name in NOW {
            assert_eq!(found[*name], "0", "{who:?}: {name}\n{}", done.stderr);
        }
        // New ones beside them, where the directory is not the run's; and the agent itself runs.
        let new = [
            (".gradle/init.d/new.gradle", "EACCES"),
            (".local/share/claude/versions/3.0", "EACCES"),
            (".claude/hooks/new", "EROFS"),
        ];
        let (found, done) = site.append("coding-agent", "work", &new.map(|(name, _)| name));
        for (name, errno) in new {
            assert_eq!(found[name], errno, "{who:?}: {name}\n{}", done.stderr);
        }
        let done = site.run("coding-agent", "work", [program.as_os_str()]);
        assert_eq!(done.stdout, "the agent\n", "{who:?}: {}", done.stderr);
        // A job of continuous integration has the same caches, and no agents.
        let tools = [".gradle/init.d/x.gradle", ".yarn/releases/yarn.cjs", ".bundle/config", ".claude.json"];
        let (found, done) = site.append("ci-job", "work", &[&tools[..], &[".gradle/caches/8/x"]].concat());
        assert!(tools.iter().all(|name| found[*name] == "EACCES"), "{who:?}: {found:?}\n{}", done.stderr);
        assert_eq!(found[".gradle/caches/8/x"], "0", "{who:?}: {}", done.stderr);
        // Nothing but the policy keeps the user from it.
        let name = site.path("home/.gradle/init.d/x.gradle");
        let words = [OsStr::new("/usr/bin/python3"), OsStr::new("-c"), OsStr::new(APPEND), name.as_os_str()];
        let free = finish(site.command("work", words)).expect(0);
        assert!(free.stdout.ends_with("\t0\n"), "{}", free.stdout);
    }
}
