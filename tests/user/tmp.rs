//! A /tmp of the run's own (`tmp: private`) for an ordinary user.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use sandbox_tests::closed::Closed;
use sandbox_tests::requirement::Need;
use sandbox_tests::scene::finish;

use crate::place::{Place, possible};

const ATTEMPTS: &str = sandbox_tests::attempts!(
    r#"
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
def umount():
    if libc.umount2(b"/tmp", 0):
        raise OSError(ctypes.get_errno(), "umount2")
attempt("outside", lambda: open(sys.argv[1]).close())
attempt("inside", lambda: open(sys.argv[2], "x").close())
attempt("work", lambda: open("made", "w").close())
attempt("way", lambda: os.rename(os.path.dirname(os.getcwd()), "/tmp/elsewhere"))
attempt("umount", umount)
"#
);

#[test]
fn a_user_has_a_tmp_of_the_runs_own() {
    if !possible("a private /tmp for a user", &[Need::Program("python3")]) {
        return;
    }
    let place = Place::new();
    let outside = tempfile::Builder::new().tempfile_in("/tmp").expect("a file in /tmp");
    fs::set_permissions(outside.path(), fs::Permissions::from_mode(0o644)).expect("chmod");
    let inside = format!("/tmp/sandbox-test-user-inside-{}", std::process::id());
    let work = place.work();
    let file = place.scene.path("policy.yaml");
    let run = |tmp: &str| {
        let rest = format!("tmp: {tmp}\n");
        let rules = "- { name: tmp, allow: [read, write, create, delete], path: [\"/tmp/**\"] }";
        let closed = Closed { work: Some(&work), rules, rest: &rest, ..Closed::default() };
        fs::write(&file, closed.policy()).expect("a policy");
        let words = ["run".into(), "--enforce".into(), file.clone().into_os_string(), "--".into()];
        let command = ["python3", "-I", "-c", ATTEMPTS].map(Into::into).into_iter();
        let names = [outside.path().as_os_str().to_owned(), inside.clone().into()];
        let done = finish(place.sandbox(words.into_iter().chain(command).chain(names))).expect(0);
        let _ = fs::remove_file(work.join("made"));
        done.stdout
    };
    assert_eq!(run("private"), "outside ENOENT\ninside 0\nwork 0\nway EBUSY\numount EPERM\n");
    assert!(!fs::exists(&inside).expect("it can be looked at"), "it is the run's own");
    let shared = run("shared");
    assert!(shared.starts_with("outside 0\ninside 0\nwork 0\n"), "{shared}");
    fs::remove_file(&inside).expect("without the setting it is there");
}
