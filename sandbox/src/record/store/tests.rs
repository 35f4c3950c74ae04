//! Stores in temporary directories. What needs root says so and skips without it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::create::group_is_private_in;
use super::*;

const NOON: i64 = 1_763_726_400_000_000_000;

fn me(home: &Path) -> Account {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    Account { uid, gid, home: home.to_owned() }
}

fn place(home: &Path) -> Place {
    Place { sandbox_home: Some(home.join("store")), recorder: me(home), reader: me(home) }
}

fn create(place: &Place) -> Result<RunDir, StoreError> {
    RunDir::create(place, &RunName::new(NOON, b"/usr/bin/cargo"))
}

fn mode(path: &Path) -> u32 {
    path.metadata().unwrap().mode() & 0o7777
}

#[test]
fn stores_are_where_they_are_said_to_be() {
    let account = |uid, home: &str| Account { uid, gid: uid, home: home.into() };
    let (root, user) = (account(0, "/root"), account(1000, "/home/u"));
    let place = |home: Option<&str>, recorder: &Account, reader: &Account| Place {
        sandbox_home: home.map(PathBuf::from),
        recorder: recorder.clone(),
        reader: reader.clone(),
    };
    assert_eq!(place(None, &root, &user).store(), Path::new("/var/lib/sandbox/1000"));
    assert_eq!(place(None, &root, &root).store(), Path::new("/root/.sandbox"));
    assert_eq!(place(None, &user, &user).store(), Path::new("/home/u/.sandbox"));
    assert_eq!(place(Some("/s"), &root, &user).store(), Path::new("/s"));
}

#[test]
fn names_say_when_and_what_and_are_never_taken_twice() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    let ids: Vec<_> = (0..3).map(|_| create(&place).unwrap().id().to_owned()).collect();
    assert_eq!(ids, ["20251121-120000-cargo", "20251121-120000-cargo-2", "20251121-120000-cargo-3"]);
    for (program, tool) in [
        (&b"/usr/bin/python3.11"[..], "python3.11"),
        (b"./a b\xff/c\n", "c_"),
        (b"../..", "run"),
        (b"-rf", "rf"),
        (b"", "run"),
        (b"a-name-longer-than-any-tool-has", "a-name-longer-th"),
    ] {
        assert_eq!(tool_name(program), tool);
    }
}

#[test]
fn a_directory_without_anything_of_a_store_is_none_and_stays_as_it_is() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    let exists = || StoreDir::existing(&place).unwrap().is_some();
    assert!(!exists());
    std::fs::create_dir(place.store()).unwrap();
    std::fs::write(place.store().join("notes"), "mine").unwrap();
    // Others may write there: it is not even looked at as a store would be.
    std::fs::set_permissions(place.store(), PermissionsExt::from_mode(0o777)).unwrap();
    assert!(!exists());
    assert_eq!((mode(&place.store()), std::fs::read_dir(place.store()).unwrap().count()), (0o777, 1));
    std::fs::set_permissions(place.store(), PermissionsExt::from_mode(0o700)).unwrap();
    for name in ["runs", "keys"] {
        std::fs::create_dir(place.store().join(name)).unwrap();
        assert!(exists());
        std::fs::remove_dir(place.store().join(name)).unwrap();
    }
    std::fs::write(place.store().join("ledger.jsonl"), "").unwrap();
    assert!(exists());
}

#[test]
fn an_id_that_the_ledger_has_is_taken_also_where_its_directory_is_gone() {
    use crate::record::ledger::LedgerFile;
    use audit_verify::ledger::Entry;
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    let begin = |run: &RunDir| {
        let ledger = LedgerFile::open(&StoreDir::open(&place).unwrap()).unwrap();
        let entry = Entry::Begin {
            run_id: run.id().to_owned(),
            first: audit_verify::Hash::of(&[run.id().as_bytes()]),
        };
        ledger.lock().unwrap().append(&entry).unwrap();
        ledger.read().unwrap()
    };
    // An id that only begins like one that is taken is free.
    for id in ["20251121-120000-cargo", "20251121-120000-cargo-2", "20251121-120000-cargo-3"] {
        let run = create(&place).unwrap();
        assert_eq!(run.id(), id);
        assert_eq!(begin(&run).fault, None);
        std::fs::remove_dir(run.path()).unwrap();
    }
    assert_eq!(std::fs::read_dir(place.store().join("runs")).unwrap().count(), 0);

    // Runs that start at once and are gone at once.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..8 {
                    let run = create(&place).unwrap();
                    begin(&run);
                    std::fs::remove_dir(run.path()).unwrap();
                }
            });
        }
    });
    let ledger = LedgerFile::open(&StoreDir::open(&place).unwrap()).unwrap().read().unwrap();
    assert_eq!((ledger.fault, ledger.runs.len()), (None, 35));

    let made: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| scope.spawn(|| (0..20).map(|_| create(&place).unwrap().path().to_owned()).collect()))
            .collect();
        threads.into_iter().flat_map(|thread| -> Vec<PathBuf> { thread.join().unwrap() }).collect()
    });
    let distinct: std::collections::HashSet<_> = made.iter().collect();
    assert_eq!(distinct.len(), 160);
}

#[test]
fn a_store_of_ones_own_is_closed_to_all_others() {
    let home = tempfile::tempdir().unwrap();
    let run = create(&place(home.path())).unwrap();
    assert_eq!(run.grant(), Grant::Owner);
    run.create_file("events.jsonl").unwrap();
    for directory in [home.path().join("store"), home.path().join("store/runs"), run.path().to_owned()] {
        assert_eq!(mode(&directory), 0o700);
    }
    assert_eq!(mode(&run.path().join("events.jsonl")), 0o600);
    assert_eq!(run.create_file("events.jsonl").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
}

#[test]
fn directories_that_others_could_swap_are_refused() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    create(&place).unwrap();
    let (store, runs, aside) =
        (home.path().join("store"), home.path().join("store/runs"), home.path().join("x"));

    for path in [&store, &runs] {
        std::fs::rename(path, &aside).unwrap();
        symlink(&aside, path).unwrap();
        assert!(matches!(create(&place), Err(StoreError::Symlink(at)) if at == *path));
        std::fs::remove_file(path).unwrap();
        std::fs::write(path, "").unwrap();
        assert!(matches!(create(&place), Err(StoreError::NotADirectory(at)) if at == *path));
        std::fs::remove_file(path).unwrap();
        std::fs::rename(&aside, path).unwrap();

        for open in [0o720, 0o702, 0o777] {
            std::fs::set_permissions(path, PermissionsExt::from_mode(open)).unwrap();
            let refused = create(&place);
            assert!(matches!(refused, Err(StoreError::OpenToOthers { mode, .. }) if mode == open));
        }
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        create(&place).unwrap();
    }

    let relative = Place { sandbox_home: Some("store".into()), ..place.clone() };
    assert!(matches!(create(&relative), Err(StoreError::Relative(_))));
    if is_root("a directory of another user is refused") {
        std::os::unix::fs::chown(&runs, Some(4001), None).unwrap();
        assert!(matches!(create(&place), Err(StoreError::Owner { owner: 4001, expected: 0, .. })));
    }
}

#[test]
fn a_run_dir_is_new_or_empty() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    let name = RunName::new(NOON, b"make");
    let at = |path: &Path| RunDir::create_at(path, &place, &name);
    let path = home.path().join("mine");
    let run = at(&path).unwrap();
    assert_eq!((run.path(), run.id()), (&*path, "20251121-120000-make"));
    at(&path).unwrap();
    run.create_file("events.jsonl").unwrap();
    assert!(matches!(at(&path), Err(StoreError::NotEmpty(at)) if at == path));

    let file = home.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(matches!(at(&file), Err(StoreError::NotADirectory(_))));
    let link = home.path().join("link");
    symlink(home.path().join("elsewhere"), &link).unwrap();
    assert!(matches!(at(&link), Err(StoreError::Symlink(_))));
    assert!(matches!(at(&home.path().join("no/such")), Err(StoreError::NoParent { .. })));
    assert!(matches!(at(Path::new("/")), Err(StoreError::NotEmpty(_))));
}

#[test]
fn a_run_that_never_started_takes_nothing_else_with_it() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("run");
    let run = RunDir::create_at(&path, &place(home.path()), &RunName::new(NOON, b"make")).unwrap();
    run.create_file("events.jsonl").unwrap();
    // Whoever owns the directory above puts a link in its place.
    let (moved, others) = (home.path().join("moved"), home.path().join("others"));
    std::fs::rename(&path, &moved).unwrap();
    std::fs::create_dir(&others).unwrap();
    std::fs::write(others.join("events.jsonl"), "theirs").unwrap();
    symlink(&others, &path).unwrap();
    run.discard_files();
    assert_eq!(std::fs::read(others.join("events.jsonl")).unwrap(), b"theirs");
    assert_eq!(std::fs::read_dir(&moved).unwrap().count(), 0);
}

#[test]
fn only_regular_files_are_read() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("meta.json");
    let refused = |path: &Path| open_regular(path).unwrap_err().to_string();
    // Nobody writes to it: opening it the plain way would never return.
    assert!(Command::new("mkfifo").arg(&path).status().unwrap().success());
    assert_eq!(refused(&path), "not a regular file");
    assert!(crate::record::meta::Meta::read(home.path()).is_err());
    assert_eq!(refused(Path::new("/dev/zero")), "not a regular file");
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "x").unwrap();
    assert_eq!(open_regular(&path).unwrap().metadata().unwrap().len(), 1);
}

#[test]
fn replaced_files_are_whole() {
    let home = tempfile::tempdir().unwrap();
    let run = create(&place(home.path())).unwrap();
    for text in ["one", "two, longer"] {
        run.replace_file("meta.json", text.as_bytes()).unwrap();
        assert_eq!(std::fs::read_to_string(run.path().join("meta.json")).unwrap(), text);
    }
    assert_eq!(std::fs::read_dir(run.path()).unwrap().count(), 1);
}

/// Root records for uid 4001, whose group uid 4002 shares: 4001 reads everything, 4002 nothing, and neither
/// writes anything.
#[test]
fn exactly_the_invoking_user_may_read() {
    if !is_root("reading as another user") {
        return;
    }
    const SHARED: u32 = 4000;
    let home = tempfile::tempdir().unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let reader = Account { uid: 4001, gid: SHARED, home: "/nonexistent".into() };
    let place = Place { reader, ..place(home.path()) };
    let run = create(&place).unwrap();
    io::Write::write_all(&mut run.create_file("events.jsonl").unwrap(), b"line\n").unwrap();
    run.replace_file("meta.json", b"{}").unwrap();
    assert_eq!(run.trust(), Trust::RootOwned);

    let shell = |uid: u32, script: &str| {
        let output =
            Command::new("sh").args(["-c", script]).env("R", run.path()).uid(uid).gid(SHARED).output();
        output.unwrap().status.success()
    };
    let reads = "cat \"$R/events.jsonl\" \"$R/meta.json\" && ls \"$R\" \"$R/..\"";
    match run.grant() {
        Grant::Acl => assert!(shell(4001, reads)),
        other => {
            eprintln!("skipped: reading by an access control list: the file system has none ({other:?})");
            assert_eq!(other, Grant::RootOnly, "gid {SHARED} is in no group file: nobody knows who is in it");
            assert!(!shell(4001, reads));
        }
    }
    for script in ["cat \"$R/events.jsonl\"", "ls \"$R\"", "ls \"$R/..\"", "ls \"$R/../..\""] {
        assert!(!shell(4002, script), "4002: {script}");
    }
    for uid in [4001, 4002] {
        for script in [
            "echo >> \"$R/events.jsonl\"",
            "echo > \"$R/new\"",
            "rm -f \"$R/events.jsonl\"",
            "mv \"$R\" \"$R.moved\"",
            "chmod 777 \"$R\"",
        ] {
            assert!(!shell(uid, script), "{uid}: {script}");
        }
    }
    assert_eq!(std::fs::read(run.path().join("events.jsonl")).unwrap(), b"line\n");
}

#[test]
fn a_store_below_a_users_directory_is_called_writable_by_the_user() {
    if !is_root("directories of another user") {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    assert_eq!(create(&place(home.path())).unwrap().trust(), Trust::RootOwned);
    std::os::unix::fs::chown(home.path(), Some(4001), None).unwrap();
    assert_eq!(create(&place(home.path())).unwrap().trust(), Trust::UserWritable);
    std::os::unix::fs::chown(home.path(), Some(0), None).unwrap();
    std::fs::set_permissions(home.path(), PermissionsExt::from_mode(0o777)).unwrap();
    assert_eq!(create(&place(home.path())).unwrap().trust(), Trust::UserWritable);
    let user = Account { uid: 4001, gid: 4001, home: "/".into() };
    assert_eq!(trust_above(home.path(), user.uid).unwrap(), Trust::UserWritable);
}

#[test]
fn a_group_is_private_when_nobody_else_can_be_in_it() {
    let account = Account { uid: 1000, gid: 1000, home: "/home/u".into() };
    let private = |passwd: &str, group: &str| group_is_private_in(&account, passwd, group);
    let passwd = "root:x:0:0::/root:/bin/sh\nu:x:1000:1000::/home/u:/bin/sh\n";
    assert!(private(passwd, "u:x:1000:\n"));
    assert!(private(passwd, "u:x:1000:u\n"));
    assert!(!private(passwd, "u:x:1000:u,other\n"));
    assert!(!private(&format!("{passwd}v:x:1001:1000::/:/bin/sh\n"), "u:x:1000:\n"));
    assert!(!private(passwd, "root:x:0:\n"), "a group that is not listed may have anyone in it");
}

#[test]
fn runs_are_found_by_id_by_path_and_by_age() {
    let home = tempfile::tempdir().unwrap();
    let place = place(home.path());
    let stores = FoundStores::for_reading(&place);
    assert!(stores.runs().unwrap().is_empty());
    assert!(matches!(stores.find("last"), Err(FindError::NoRuns(at)) if at == [place.store()]));

    let mut made = Vec::new();
    for (at, tool) in [(0, "zz"), (60, "make"), (60, "make"), (3600, "aa")] {
        let run = RunDir::create(&place, &RunName::new(NOON + at * 1_000_000_000, tool.as_bytes())).unwrap();
        run.create_file("events.jsonl").unwrap();
        made.push(Found { id: run.id().to_owned(), path: run.path().to_owned() });
    }
    std::fs::write(home.path().join("store/runs/not-a-run"), "").unwrap();
    assert_eq!(stores.runs().unwrap(), made);
    assert_eq!(stores.find("last").unwrap(), made[3]);
    assert_eq!(stores.find(&made[1].id).unwrap(), made[1]);
    assert_eq!(stores.find(made[2].path.to_str().unwrap()).unwrap(), made[2]);
    assert_eq!(stores.find(made[2].path.join("events.jsonl").to_str().unwrap()).unwrap(), made[2]);

    // A bare name is a path too, where no run has it: tests run in the crate's own directory.
    assert!(matches!(stores.find("src"), Err(FindError::NotARun(at)) if at.ends_with("sandbox/src")));

    let error = stores.find("20251121-120100-mkae-2").unwrap_err();
    assert_eq!(error.to_string(), "no run 20251121-120100-mkae-2; did you mean 20251121-120100-make-2?");
    let error = stores.find("20251121-1201").unwrap_err().to_string();
    let both = "20251121-120100-make-2, 20251121-120100-make?";
    assert_eq!(
        error,
        format!("no run 20251121-1201; did you mean one of {both}"),
        "they begin so, the latest first"
    );
    let error = stores.find("20251121-13").unwrap_err().to_string();
    assert_eq!(error, format!("no run 20251121-13; did you mean {}?", made[3].id), "it begins so");
    let error = stores.find("20251120-093111-make").unwrap_err().to_string();
    assert_eq!(error, "no run 20251120-093111-make; `sandbox runs` lists them", "another day is no slip");
    let file = home.path().join("store/runs/not-a-run");
    let error = stores.find(file.to_str().unwrap()).unwrap_err().to_string();
    assert!(error.contains("a run is a directory with events.jsonl in it"), "{error}");
    let error = stores.find("x").unwrap_err();
    assert_eq!(error.to_string(), "no run x; `sandbox runs` lists them");
    let error = stores.find("").unwrap_err();
    assert_eq!(error.to_string(), "no run without a name; `sandbox runs` lists them");
    assert!(matches!(stores.find(home.path().to_str().unwrap()), Err(FindError::NotARun(_))));
}

fn is_root(what: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("skipped: {what} needs root");
    }
    root
}
