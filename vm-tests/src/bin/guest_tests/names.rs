//! Making, removing, renaming and linking names: both ends are judged, and a new name opens nothing.

use crate::attempt::{ACCES, Attempt, Treatment, allowed, denied, expect_answers, expect_events, steps};
use crate::run::complete;
use crate::{Trial, write};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::Path;

pub const TRIALS: &[Trial] = &[
    ("names enforced", enforced),
    ("names audited", audited),
    ("without a name at first", nameless),
    ("two spellings of one name", crate::spellings::refused),
];

/// Where the names are; made afresh for each run.
const PLACE: &str = "/tmp/trial/n";

const POLICY: &str = r#"
version: 1
name: names
files:
  default: allow
  rules:
    - { name: no-make, deny: [create], path: ["/tmp/trial/n/closed/**"] }
    - { name: no-remove, deny: [delete], path: ["/tmp/trial/n/kept/**"] }
    - name: no-read
      deny: [read]
      path: ["/tmp/trial/n/secret*", "/tmp/trial/n/vault/**", "/tmp/trial/n/tree*/inner/**", "**/*.pem"]
    - { name: no-write, deny: [write], path: ["/tmp/trial/n/{fixed,blank*}"] }
"#;

const MAKE: &str = "names/no-make";
const REMOVE: &str = "names/no-remove";
const WRITE: &str = "names/no-write";
const READ: &str = "names/no-read";

macro_rules! at {
    ($name:literal) => {
        ("path", concat!("/tmp/trial/n/", $name))
    };
}
macro_rules! to {
    ($name:literal) => {
        ("path2", concat!("/tmp/trial/n/", $name))
    };
}
macro_rules! step {
    ($word:literal $one:literal) => {
        concat!($word, "=/tmp/trial/n/", $one)
    };
    ($word:literal $one:literal $two:literal) => {
        concat!($word, "=/tmp/trial/n/", $one, ",/tmp/trial/n/", $two)
    };
}

const TABLE: &[Attempt] = &[
    denied(step!("mkdir" "closed/dir"), "dir_create", at!("closed/dir"), ACCES, MAKE),
    allowed(step!("mkdir" "open/dir"), "dir_create", at!("open/dir")),
    denied(step!("mkdir" "to-closed/two"), "dir_create", at!("closed/two"), ACCES, MAKE),
    denied(step!("mknod" "closed/fifo"), "file_create", at!("closed/fifo"), ACCES, MAKE),
    allowed(step!("mknod" "open/fifo"), "file_create", at!("open/fifo")),
    denied(step!("create" "closed/file"), "file_create", at!("closed/file"), ACCES, MAKE),
    allowed(step!("create" "open/file"), "file_create", at!("open/file")),
    // Making may be allowed where writing is not: an open for writing makes nothing.
    denied(step!("create" "blank1"), "file_create", at!("blank1"), ACCES, WRITE),
    denied(step!("create-open" "blank2"), "file_create", at!("blank2"), ACCES, WRITE),
    denied(step!("create-openat2" "blank3"), "file_create", at!("blank3"), ACCES, WRITE),
    allowed(step!("create-read" "blank4"), "file_create", at!("blank4")),
    allowed(step!("mknod" "blank5"), "file_create", at!("blank5")),
    allowed(step!("create-openat2" "open/file2"), "file_create", at!("open/file2")),
    denied(step!("symlink" "closed/symlink"), "file_symlink", at!("closed/symlink"), ACCES, MAKE),
    allowed(step!("symlink" "open/symlink"), "file_symlink", at!("open/symlink")),
    // A link's new end.
    denied(step!("link" "plain1" "closed/link"), "file_link", to!("closed/link"), ACCES, MAKE),
    allowed(step!("link" "plain1" "open/link"), "file_link", to!("open/link")),
    // What is closed gets no open name; where both are closed it may.
    denied(step!("link" "secret1" "open/secret"), "file_link", to!("open/secret"), ACCES, READ),
    allowed(step!("link" "vault/a" "vault/b"), "file_link", to!("vault/b")),
    denied(step!("rename" "secret2" "open/renamed"), "file_rename", at!("secret2"), ACCES, READ),
    allowed(step!("rename" "key.pem" "open/other.pem"), "file_rename", at!("key.pem")),
    denied(step!("rename" "other.pem" "open/other.txt"), "file_rename", at!("other.pem"), ACCES, READ),
    // Both ends of a rename, and what it replaces.
    denied(step!("rename" "plain2" "closed/renamed"), "file_rename", at!("plain2"), ACCES, MAKE),
    allowed(step!("rename" "plain3" "open/plain3"), "file_rename", at!("plain3")),
    denied(step!("rename" "kept/a" "open/a"), "file_rename", at!("kept/a"), ACCES, REMOVE),
    denied(step!("rename" "plain4" "kept/b"), "file_rename", at!("plain4"), ACCES, REMOVE),
    allowed(step!("rename" "plain5" "kept/new"), "file_rename", at!("plain5")),
    denied(step!("exchange" "secret3" "plain6"), "file_rename", at!("secret3"), ACCES, READ),
    denied(step!("exchange" "plain6" "secret4"), "file_rename", at!("plain6"), ACCES, READ),
    allowed(step!("exchange" "plain7" "plain8"), "file_rename", at!("plain7")),
    // A directory keeps what lies below it where the rules see it.
    denied(step!("rename" "tree" "open/tree"), "file_rename", at!("tree"), ACCES, ""),
    denied(step!("rename" "tree3/inner" "open/inner"), "file_rename", at!("tree3/inner"), ACCES, READ),
    allowed(step!("rename" "bush" "open/bush"), "file_rename", at!("bush")),
    denied(step!("exchange" "hedge" "tree2"), "file_rename", at!("hedge"), ACCES, ""),
    denied(step!("unlink" "kept/c"), "file_delete", at!("kept/c"), ACCES, REMOVE),
    allowed(step!("unlink" "plain9"), "file_delete", at!("plain9")),
    denied(step!("rmdir" "kept/empty"), "dir_delete", at!("kept/empty"), ACCES, REMOVE),
    allowed(step!("rmdir" "empty"), "dir_delete", at!("empty")),
    denied(step!("truncate" "fixed"), "file_truncate", at!("fixed"), ACCES, WRITE),
    allowed(step!("truncate" "plain10"), "file_truncate", at!("plain10")),
    // What is allowed is told by its own name too, by whatever name it was called.
    allowed(step!("truncate" "to-open/plain11"), "file_truncate", at!("open/plain11")),
    allowed(step!("mknod" "to-open/fifo2"), "file_create", at!("open/fifo2")),
];

/// Makes the names that the table starts from.
fn set_up() -> Result<String> {
    if Path::new(PLACE).exists() {
        fs::remove_dir_all(PLACE)?;
    }
    let trees = ["tree/inner", "tree2/inner", "tree3/inner", "bush/inner", "hedge"];
    for directory in ["open", "closed", "kept/empty", "vault", "empty"].into_iter().chain(trees) {
        fs::create_dir_all(Path::new(PLACE).join(directory))?;
    }
    let files = ["vault/a", "kept/a", "kept/b", "kept/c", "fixed", "key.pem", "other.pem", "tree/inner/x"];
    let numbered = |name, count| (1..=count).map(move |number| format!("{name}{number}"));
    for file in files.map(str::to_owned).into_iter().chain(numbered("plain", 10)).chain(numbered("secret", 4))
    {
        fs::write(Path::new(PLACE).join(&file), "content").with_context(|| format!("cannot make {file}"))?;
    }
    fs::write(Path::new(PLACE).join("open/plain11"), "content")?;
    for (name, target) in [("to-closed", "closed"), ("to-open", "open")] {
        std::os::unix::fs::symlink(target, Path::new(PLACE).join(name))?;
    }
    write("names.yaml", POLICY)
}

fn enforced() -> Result<()> {
    let policy = set_up()?;
    let finished = complete("names-enforced", &["--enforce", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)?;
    let closed: Vec<_> = fs::read_dir(Path::new(PLACE).join("closed"))?.collect();
    ensure!(closed.is_empty(), "what was denied was made: {closed:?}");
    for blank in ["blank1", "blank2", "blank3"] {
        ensure!(!Path::new(PLACE).join(blank).exists(), "{blank} was made");
    }
    for kept in ["kept/a", "kept/b", "kept/c", "kept/empty", "fixed", "secret1", "tree/inner/x"] {
        let path = Path::new(PLACE).join(kept);
        let whole = path.is_dir() || fs::read(&path).is_ok_and(|content| content == b"content");
        ensure!(whole, "{kept} is not as it was");
    }
    finished.expect_verdict(0)
}

fn audited() -> Result<()> {
    let policy = set_up()?;
    let finished =
        complete("names-audited", &["--audit-only", "--policy", &policy, "--require", "lsm"], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Audited, &finished.stdout)?;
    expect_events(TABLE, Treatment::Audited, &finished.log()?)?;
    finished.expect_verdict(0)
}

/// A socket that is bound to a path, and a file that gets its name by a link.
fn nameless() -> Result<()> {
    const TABLE: &[Attempt] = &[
        denied(step!("bind-path" "closed/socket"), "file_create", at!("closed/socket"), ACCES, MAKE),
        allowed(step!("bind-path" "open/socket"), "net_bind", at!("open/socket")),
        allowed(step!("bind-path" "blank6"), "net_bind", at!("blank6")),
        denied(step!("tmpfile" "open" "closed/linked"), "file_link", to!("closed/linked"), ACCES, MAKE),
        allowed(step!("tmpfile" "open" "open/linked"), "file_link", to!("open/linked")),
    ];
    let policy = set_up()?;
    let finished = complete("nameless", &["--enforce", &policy], &steps(TABLE))?;
    finished.expect_code(0)?;
    expect_answers(TABLE, Treatment::Enforced, &finished.stdout)?;
    expect_events(TABLE, Treatment::Enforced, &finished.log()?)
}
