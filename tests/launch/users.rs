//! Whose the command is: sudo's caller, `--user`, root, and what an ordinary account is told.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::Command;

use sandbox_tests::requirement::{Need, met};
use sandbox_tests::scene::{Scene, finish};

/// nobody, who is on every machine.
const NOBODY: &str = "65534";

const WHO: &str =
    "id -u; id -g; id -G; echo \"$HOME\"; echo \"$USER\"; echo \"$LOGNAME\"; env | grep -c ^SUDO_";

fn under_sudo(scene: &Scene, args: &[&str]) -> Command {
    let mut command = scene.sandbox(args);
    command.env("SUDO_UID", NOBODY).env("SUDO_GID", NOBODY).env("SUDO_USER", "nobody");
    command
        .env("SUDO_COMMAND", "sandbox run")
        .env("HOME", "/root")
        .env("USER", "root")
        .env("LOGNAME", "root");
    command
}

#[test]
fn under_sudo_the_command_is_the_callers() {
    if !met("under_sudo_the_command_is_the_callers", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let done = finish(under_sudo(&scene, &["run", "-q", "--", "sh", "-c", WHO])).expect(1);
    let nobody = nix::unistd::User::from_name("nobody").unwrap().expect("nobody");
    let home = nobody.dir.display().to_string();
    let lines: Vec<&str> = done.stdout.lines().collect();
    assert_eq!(lines, [NOBODY, NOBODY, NOBODY, home.as_str(), "nobody", "nobody", "0"]);

    // The record is root's, and theirs to read but not to write.
    let log = scene.run().join("events.jsonl");
    let found = fs::metadata(&log).unwrap();
    assert_eq!(found.uid(), 0);
    let as_nobody = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]).arg(&log).uid(65534).gid(65534);
        command.status().unwrap().success()
    };
    assert!(as_nobody("cat \"$1\" >/dev/null"));
    assert!(!as_nobody("echo >> \"$1\"") && !as_nobody("rm \"$1\""));
}

#[test]
fn a_named_user_is_taken() {
    if !met("a_named_user_is_taken", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    for user in ["nobody", NOBODY] {
        let done = finish(scene.sandbox(["run", "-q", "--user", user, "--", "id", "-u"])).expect(0);
        assert_eq!(done.stdout, "65534\n");
    }
    // --user says more than sudo does.
    assert_eq!(
        finish(under_sudo(&scene, &["run", "-q", "--user", "root", "--", "id", "-u"])).expect(0).stdout,
        "0\n"
    );
}

#[test]
fn an_unlisted_caller_keeps_the_ids() {
    if !met("an_unlisted_caller_keeps_the_ids", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    let mut command = under_sudo(&scene, &["run", "-q", "--", "id"]);
    command.env("SUDO_UID", "4012345").env("SUDO_GID", "4012346").env("SUDO_USER", "ghost");
    assert_eq!(finish(command).expect(0).stdout, "uid=4012345 gid=4012346 groups=4012346\n");
}

#[test]
fn nonsense_is_refused() {
    if !met("nonsense_is_refused", &[Need::Root]) {
        return;
    }
    let scene = Scene::new();
    let done = finish(scene.sandbox(["run", "--user", "no-such-user", "--", "true"])).expect(125);
    assert_eq!(done.stderr, "sandbox: there is no user \"no-such-user\"\n");
    let mut command = under_sudo(&scene, &["run", "--", "true"]);
    command.env("SUDO_UID", "me");
    assert!(finish(command).expect(125).stderr.contains("SUDO_UID is \"me\", not a number"));
    assert!(!scene.store().exists());
}

#[test]
fn an_ordinary_account_is_given_the_line_that_gives_more() {
    if !met("an_ordinary_account_is_given_the_line_that_gives_more", &[Need::Trace]) {
        return;
    }
    let scene = Scene::new();
    // Where the tests' own directory is closed to others, a copy is not.
    let program = scene.path("sandbox");
    fs::copy(sandbox_tests::binaries::binary("sandbox"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let own = scene.path("own");
    fs::create_dir(&own).unwrap();
    std::os::unix::fs::chown(&own, Some(65534), Some(65534)).unwrap();
    let arguments = ["run", "--", "printf", "%s|", "a b", "it's", "", "$HOME"];
    let mut command = scene.command(&program, arguments);
    command.uid(65534).gid(65534).env("SANDBOX_HOME", own.join("store"));
    let done = finish(command).expect(0);
    assert_eq!(done.stdout, "a b|it's||$HOME|");
    let line = done.stderr.lines().find(|line| line.starts_with("sudo ")).unwrap_or_default().to_owned();
    let rest = line.strip_prefix("sudo -E env \"PATH=$PATH\" ").unwrap_or_else(|| panic!("{}", done.stderr));
    assert!(rest.starts_with(program.to_str().unwrap()), "{line}");
    assert!(!scene.store().exists());
    // Pasted into a shell that has become root, the rest of the line does what was asked.
    let pasted = finish(scene.command("sh", ["-c", rest])).expect(0);
    assert_eq!(pasted.stdout, "a b|it's||$HOME|");
}
