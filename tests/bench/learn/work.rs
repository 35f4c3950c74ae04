//! What an agent of a made-up run does: compile a file, run tests, install a package, commit, look around.
//!
//! Sources and what is installed are the same files in each run, some thousands of each; everything else is named anew.

use super::build::{Build, Process};
use super::random::Random;

/// Where headers are looked for, in this order.
const INCLUDES: [&str; 3] =
    ["/usr/lib/gcc/x86_64-linux-gnu/12/include", "/usr/local/include", "/usr/include/x86_64-linux-gnu"];

/// Programs that agents look around with.
const TOOLS: [&str; 8] = ["cat", "diff", "find", "grep", "head", "ls", "sed", "wc"];

/// Hosts that packages come from, with an address each.
const HOSTS: [(&str, &str); 4] = [
    ("registry.npmjs.org", "203.0.113.10"),
    ("pypi.org", "203.0.113.20"),
    ("files.pythonhosted.org", "203.0.113.21"),
    ("github.com", "198.51.100.7"),
];

/// A piece of work.
#[derive(Clone, Copy, Debug)]
pub enum Work {
    Compile,
    Test,
    Install,
    Commit,
    Look,
    /// What no other run does.
    Unusual,
}

impl Work {
    /// What comes next.
    pub fn next(random: &mut Random) -> Self {
        if random.chance(1) {
            return Self::Unusual;
        }
        *random.pick(&[
            Self::Compile,
            Self::Compile,
            Self::Compile,
            Self::Test,
            Self::Install,
            Self::Commit,
            Self::Look,
            Self::Look,
        ])
    }

    /// Does it.
    pub fn done(self, run: &mut Build<'_>, agent: &Process) {
        match self {
            Self::Compile => compile(run, agent),
            Self::Test => test(run, agent),
            Self::Install => install(run, agent),
            Self::Commit => commit(run, agent),
            Self::Look => look(run, agent),
            Self::Unusual => unusual(run, agent),
        }
    }
}

/// A source, by its part and number.
fn source(run: &mut Build<'_>) -> (String, String) {
    let (part, unit) = (run.random.between(0, 39), run.random.between(0, 119));
    (format!("part-{part}"), format!("unit-{unit}"))
}

fn compile(run: &mut Build<'_>, agent: &Process) {
    let (part, unit) = source(run);
    let work = run.workspace.clone();
    let made = format!("{work}/build/{part}/{unit}.o");
    let make = run.child(agent, "/usr/bin/make", &["make", "-j2"]);
    run.open(&make, &format!("{work}/Makefile"), &["read"]);
    let driver = run.child(&make, "/usr/bin/x86_64-linux-gnu-gcc-12", &["cc", "-O2", "-c", "-o", &made]);
    let assembly = format!("/tmp/cc{}.s", run.random.made_up(6));
    run.open(&driver, &assembly, &["read", "write", "create"]);
    let compiler = run.child(&driver, "/usr/lib/gcc/x86_64-linux-gnu/12/cc1", &["cc1", "-quiet", "-O2"]);
    run.open(&compiler, &format!("/proc/{}/maps", agent.pid()), &["read"]);
    run.open(&compiler, &format!("{work}/src/{part}/{unit}.c"), &["read"]);
    for _ in 0..run.random.between(20, 60) {
        let (directory, header) = (run.random.between(0, 89), run.random.between(0, 30));
        let name = format!("library-{directory}/header-{header}.h");
        for include in &INCLUDES[..run.random.between(0, INCLUDES.len() - 1)] {
            run.miss(&compiler, &format!("{include}/{name}"));
        }
        run.open(&compiler, &format!("/usr/include/{name}"), &["read"]);
    }
    run.open(&compiler, &assembly, &["write", "create"]);
    run.end(&compiler);
    let assembler = run.child(&driver, "/usr/bin/x86_64-linux-gnu-as", &["as", "-o", &made, &assembly]);
    run.open(&assembler, &assembly, &["read"]);
    run.delete(&assembler, &made);
    run.open(&assembler, &made, &["read", "write", "create"]);
    run.end(&assembler);
    run.delete(&driver, &assembly);
    run.end(&driver);
    run.end(&make);
}

fn test(run: &mut Build<'_>, agent: &Process) {
    let work = run.workspace.clone();
    let python = run.child(agent, "/usr/bin/python3.11", &["python3", "-m", "unittest"]);
    for _ in 0..run.random.between(40, 120) {
        let (package, module) = (run.random.between(0, 79), run.random.between(0, 40));
        let name = format!("package{package}/module{module}");
        run.miss(&python, &format!("{work}/{name}.py"));
        run.open(&python, &format!("/usr/lib/python3/dist-packages/{name}.py"), &["read"]);
    }
    for _ in 0..run.random.between(3, 12) {
        let (part, unit) = source(run);
        run.open(&python, &format!("{work}/tests/{part}/test_{}.py", unit.replace('-', "_")), &["read"]);
        // Compiled, and put in its place when it is whole.
        let cache = format!("{work}/tests/{part}/__pycache__");
        let compiled = format!("{cache}/test_{unit}.cpython-311.pyc");
        let whole = format!("{compiled}.{}", run.random.between(100_000_000, 999_999_999));
        run.directory(&python, &cache);
        run.open(&python, &whole, &["write", "create"]);
        run.rename(&python, &whole, &compiled);
        let scratch = format!("/tmp/tmp{}", run.random.made_up(8));
        run.directory(&python, &scratch);
        run.open(&python, &format!("{scratch}/data.json"), &["write", "create"]);
        run.delete(&python, &format!("{scratch}/data.json"));
    }
    let port = run.random.between(32_768, 60_999) as u64;
    run.serve(&python, port);
    let built = format!("{work}/build/tests/test-{}", run.random.hex(10));
    let program = run.child(&python, &built, &[&built]);
    run.open(&program, "/dev/null", &["write"]);
    run.end(&program);
    run.end(&python);
}

fn install(run: &mut Build<'_>, agent: &Process) {
    let work = run.workspace.clone();
    let npm = run.child(agent, "/usr/bin/npm", &["npm", "install"]);
    let (host, address) = *run.random.pick(&HOSTS);
    run.connect(&npm, host, address);
    let cache = "/home/u/.npm/_cacache";
    for _ in 0..run.random.between(5, 15) {
        let (package, digest) = (run.random.between(0, 299), run.random.hex(64));
        let fetched = format!("{cache}/tmp/{}", run.random.hex(8));
        run.open(&npm, &fetched, &["write", "create"]);
        let kept = format!("{cache}/content-v2/sha512/{}/{}/{}", &digest[..2], &digest[2..4], &digest[4..]);
        run.rename(&npm, &fetched, &kept);
        for file in ["package.json", "index.js", "lib/main.js", "LICENSE"] {
            let name = format!("{work}/node_modules/package-{package}/{file}");
            run.open(&npm, &name, &["write", "create"]);
            run.open(&npm, &name, &["read"]);
        }
    }
    run.end(&npm);
}

fn commit(run: &mut Build<'_>, agent: &Process) {
    let work = run.workspace.clone();
    let git = run.child(agent, "/usr/bin/git", &["git", "commit", "-am", "work"]);
    for configuration in ["/etc/gitconfig", "/home/u/.config/git/config"] {
        run.miss(&git, configuration);
    }
    run.open(&git, "/home/u/.gitconfig", &["read"]);
    for name in ["HEAD", "config", "index", "refs/heads/main"] {
        run.open(&git, &format!("{work}/.git/{name}"), &["read"]);
    }
    for _ in 0..run.random.between(10, 40) {
        let digest = run.random.hex(40);
        let directory = format!("{work}/.git/objects/{}", &digest[..2]);
        let unnamed = format!("{directory}/tmp_obj_{}", run.random.made_up(6));
        run.open(&git, &unnamed, &["read", "write", "create"]);
        run.rename(&git, &unnamed, &format!("{directory}/{}", &digest[2..]));
    }
    for name in ["index", "refs/heads/main", "HEAD"] {
        let lock = format!("{work}/.git/{name}.lock");
        run.open(&git, &lock, &["read", "write", "create"]);
        run.rename(&git, &lock, &format!("{work}/.git/{name}"));
    }
    run.end(&git);
}

fn look(run: &mut Build<'_>, agent: &Process) {
    let work = run.workspace.clone();
    let shell = run.child(agent, "/usr/bin/dash", &["sh", "-c", "grep -r name src | head"]);
    for _ in 0..run.random.between(1, 4) {
        let tool = *run.random.pick(&TOOLS);
        let process = run.child(&shell, &format!("/usr/bin/{tool}"), &[tool, "-n", "name"]);
        run.open(&process, "/usr/lib/locale/C.utf8/LC_CTYPE", &["read"]);
        for _ in 0..run.random.between(5, 40) {
            let (part, unit) = source(run);
            run.open(&process, &format!("{work}/src/{part}/{unit}.c"), &["read"]);
        }
        run.open(&process, &format!("/proc/{}/stat", process.pid()), &["read"]);
        run.end(&process);
    }
    run.end(&shell);
}

fn unusual(run: &mut Build<'_>, agent: &Process) {
    let name = format!("tool-{}", run.number);
    let tool = run.child(agent, &format!("/usr/local/bin/{name}"), &[&name, "--update"]);
    run.connect(&tool, &format!("{name}.example.org"), "198.51.100.80");
    run.open(&tool, &format!("/etc/{name}.conf"), &["read"]);
    for _ in 0..run.random.between(1, 5) {
        let entry = run.random.hex(40);
        run.open(&tool, &format!("/home/u/.cache/{name}/{entry}"), &["read", "write", "create"]);
    }
    run.end(&tool);
}
