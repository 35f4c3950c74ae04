//! A policy that several tests vary: files are closed but for what Python needs, and a workspace.

use std::fmt::Write as _;
use std::path::Path;

/// What of it is another one's.
#[derive(Clone, Copy, Debug)]
pub struct Closed<'a> {
    /// Where everything may be done.
    pub work: Option<&'a Path>,
    /// Whether /proc may be read.
    pub proc: bool,
    /// More rules on files, a line each, as items of a list.
    pub rules: &'a str,
    /// The default of the network.
    pub network: &'a str,
    /// The words of `kernel` that are allowed.
    pub kernel: &'a str,
    /// More sections.
    pub rest: &'a str,
}

impl Default for Closed<'_> {
    fn default() -> Self {
        Self { work: None, proc: false, rules: "", network: "allow", kernel: "ptrace-own", rest: "" }
    }
}

impl Closed<'_> {
    /// As YAML; the policy's name is `p`.
    pub fn policy(&self) -> String {
        let Self { work, proc, rules, network, kernel, rest } = *self;
        let proc = if proc { r#", "/proc/**""# } else { "" };
        let mut text = String::from("version: 1\nname: p\nfiles:\n  default: deny\n  rules:\n");
        let mut rule = |rule: &str| _ = writeln!(text, "    - {{ {rule} }}");
        rule(r#"name: open, allow: [load, attributes], path: ["/**"]"#);
        rule(&format!(
            r#"name: system, allow: [read], path: ["/usr/**", "/etc/**", "/lib/**", "/lib64/**"{proc}]"#
        ));
        rule(r#"name: devices, allow: [read, write], path: ["/dev/null", "/dev/urandom"]"#);
        if let Some(work) = work {
            let work = work.display();
            rule(&format!(r#"name: work, allow: [read, write, create, delete], path: ["{work}/**"]"#));
        }
        for line in rules.lines().filter(|line| !line.trim().is_empty()) {
            let _ = writeln!(text, "    {}", line.trim_start());
        }
        let _ = write!(
            text,
            "exec: {{ default: allow }}\nnetwork: {{ default: {network} }}\nkernel: {{ allow: [{kernel}] }}\n{rest}"
        );
        text
    }
}
