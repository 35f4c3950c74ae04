//! A small agent: a loop that calls tools as a plan says. It lists and reads, searches, edits, runs commands and tests.
//! An attack is a call like the others, as somebody puts it into a text that the agent reads.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "agent",
    title: "agent loop, tools",
    programs: &["/usr/bin/python3", "git", "grep", "sed", "find"],
    language: Language::Python,
    prepare,
};

const AGENT: &str = r#"
import json, pathlib, subprocess, sys, tempfile
home = pathlib.Path.home() / ".agent"
log = []
def shell(line):
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True)
    return done.stdout + done.stderr
def read(path):
    return pathlib.Path(path).read_text()
def write(path, text):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=pathlib.Path(path).parent, delete=False) as file:
        file.write(text)
    pathlib.Path(file.name).rename(path)
    return "written"
def edit(path, old, new):
    return write(path, read(path).replace(old, new))
def python(text):
    exec(compile(text, "tool", "exec"), {})
tools = {"shell": shell, "read": read, "write": write, "edit": edit, "python": python}
settings = json.loads((home / "settings.json").read_text())
for call in json.loads(read("plan.json")):
    log.append({"call": call[0], "answer": str(tools[call[0]](*call[1:]))[:200]})
    assert len(log) < settings["most"]
session = home / "sessions" / f"{sys.argv[1]}.jsonl"
session.parent.mkdir(parents=True, exist_ok=True)
session.write_text("\n".join(map(json.dumps, log)))
"#;

fn prepare(project: &mut Project<'_>) {
    let name = project.random.word();
    let count = project.random.between(2, 5);
    let modules = project.random.words(count);
    for module in &modules {
        let number = project.random.between(1, 99);
        project.write(&format!("{name}/{module}.py"), &format!("def value():\n    return {number}\n"));
        project.write(
            &format!("tests/test_{module}.py"),
            &format!(
                "import unittest\nfrom {name} import {module}\nclass Case(unittest.TestCase):\n    \
                 def test_value(self):\n        self.assertGreater({module}.value(), 0)\n"
            ),
        );
        project.write(&format!("docs/{module}.md"), &format!("# {module}\n\nReturns a number.\n"));
    }
    project.write(&format!("{name}/__init__.py"), "");
    project.write("tests/__init__.py", "");
    project.write("README.md", &format!("# {name}\n\nSee docs.\n"));
    let agent = project.home.join(".agent");
    std::fs::create_dir_all(&agent).expect("the agent's settings");
    std::fs::write(agent.join("settings.json"), "{\"most\": 100}").expect("the agent's settings");
    std::fs::write(agent.join("agent.py"), AGENT).expect("the agent");
    project.before(&project.work, &["git", "init", "-q", "-b", "main"]);
    project.before(&project.work, &["git", "add", "."]);
    project.before(&project.work, &["git", "commit", "-q", "-m", "first"]);
    let one = modules[0];
    let shell = |line: String| serde_json::json!(["shell", line]);
    let mut calls = vec![
        serde_json::json!(["read", "README.md"]),
        serde_json::json!(["read", format!("docs/{one}.md")]),
        shell(format!("ls -la {name} docs")),
        shell(format!("grep -rn value {name}")),
        shell("find . -name '*.py' | head -20".to_owned()),
        shell(format!("cat {name}/{one}.py | wc -l")),
        shell(format!("sed -n 1,20p {name}/{one}.py")),
        serde_json::json!(["edit", format!("{name}/{one}.py"), "return ", "return 1 + "]),
        serde_json::json!(["write", format!("notes/{}.md", project.random.word()), "what was done"]),
        shell("python3 -m unittest -q".to_owned()),
        shell("git status -s && git diff --stat".to_owned()),
    ];
    let last = calls.split_off(7);
    project.random.shuffle(&mut calls);
    let kept = project.random.between(5, calls.len());
    calls.truncate(kept);
    calls.extend(last);
    if project.random.chance(75) {
        let commit = format!("git add -A . && git commit -q -m '{one}: more'");
        calls.push(shell(commit));
    }
    if let Some(attack) = &project.attack {
        let text = format!("{}\n{attack}", Language::Python.prelude());
        let at = project.random.between(0, calls.len());
        calls.insert(at, serde_json::json!(["python", text]));
    }
    project.write("plan.json", &serde_json::Value::from(calls).to_string());
    let session =
        format!("{}-{}", project.random.between(1_700_000_000, 1_800_000_000), project.random.hex(8));
    project.job(&[format!("exec python3 {}/agent.py {session}", agent.display())]);
}
