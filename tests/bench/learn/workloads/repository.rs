//! git in a linked worktree, as agents work beside each other: branches, commits, merges, further worktrees.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload =
    Workload { name: "git", title: "git, worktrees", programs: &["git"], language: Language::Shell, prepare };

fn prepare(project: &mut Project<'_>) {
    // The repository lies elsewhere; the workspace is a worktree of it.
    let name = format!("{}-{}", project.random.word(), project.random.hex(4));
    let main = project.home.join("src").join(name);
    // One that an earlier preparation of the same run made.
    let _ = std::fs::remove_dir_all(&main);
    std::fs::create_dir_all(&main).expect("a repository");
    let count = project.random.between(3, 9);
    let files = project.random.words(count);
    for file in &files {
        let lines: String =
            (0..project.random.between(3, 40)).map(|line| format!("{line} {file}\n")).collect();
        std::fs::write(main.join(format!("{file}.txt")), lines).expect("a file of the repository");
    }
    let branch = format!("{}/{}", project.random.pick(&["agent", "feature", "fix"]), project.random.word());
    for words in [
        &["git", "init", "-q", "-b", "main"][..],
        &["git", "add", "."],
        &["git", "commit", "-q", "-m", "first"],
    ] {
        project.before(&main, words);
    }
    let work = project.work.display().to_string();
    std::fs::remove_dir(&project.work).expect("an empty workspace");
    project.before(&main, &["git", "worktree", "add", "-q", "-b", &branch, &work]);
    let other = format!("{}-{}", project.random.word(), project.random.between(2, 99));
    let [one, two] = [files[0], files[1]];
    let word = project.random.word();
    let mut steps = vec![
        format!("echo {word} >> {one}.txt && git add {one}.txt && git commit -q -m '{word} in {one}'"),
        format!("git checkout -q -b {other}"),
        format!("echo {other} > {other}.txt && git add -A . && git commit -q -m {other}"),
        format!("git checkout -q {branch} && git merge -q --no-edit {other}"),
    ];
    let mut more = vec![
        "git status -s >/dev/null".to_owned(),
        "git log --oneline --stat >/dev/null".to_owned(),
        format!("git diff HEAD~1 -- {two}.txt >/dev/null"),
        format!("git tag v{}.{}", project.random.between(0, 5), project.random.between(0, 50)),
        format!(
            "echo later >> {two}.txt && git stash -q && git stash pop -q && git checkout -q -- {two}.txt"
        ),
        format!(
            "git worktree add -q trees/{word} -b side-{word} && git -C trees/{word} log --oneline >/dev/null && git worktree remove trees/{word}"
        ),
        "git gc -q".to_owned(),
        "git fsck --no-progress >/dev/null 2>&1".to_owned(),
    ];
    project.random.shuffle(&mut more);
    let kept = project.random.between(5, more.len());
    steps.extend(more.into_iter().take(kept));
    if let Some(calls) = project.attack.clone() {
        let text = format!("(\n{}\n{calls}\n) || true", Language::Shell.prelude());
        project.among(&mut steps, text);
    }
    // Nothing that is committed.
    project.job(&steps);
    let exclude = main.join(".git/info/exclude");
    std::fs::create_dir_all(main.join(".git/info")).expect("a directory of the repository");
    std::fs::write(exclude, "job.sh\nloot.txt\ntrees\n").expect("what is not committed");
}
