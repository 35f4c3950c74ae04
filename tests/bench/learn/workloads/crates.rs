//! A Rust workspace with a build script, built and tested offline.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "cargo",
    title: "Rust crate, cargo --offline",
    programs: &["cargo", "rustc", "cc"],
    language: Language::Rust,
    prepare,
};

fn prepare(project: &mut Project<'_>) {
    let name = project.random.word();
    let count = project.random.between(1, 4);
    let modules: Vec<&str> =
        project.random.words(count + 1).into_iter().filter(|word| *word != name).collect();
    let version = format!("0.{}.{}", project.random.between(1, 9), project.random.between(0, 20));
    let member = format!("{name}-{}", project.random.pick(&["core", "types", "util"]));
    let is_split = project.random.chance(60);
    let mut manifest = format!(
        "[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\nbuild = \"build.rs\"\n[dependencies]\n"
    );
    if is_split {
        manifest += &format!("{member} = {{ path = \"crates/{member}\" }}\n");
        let of_member =
            format!("[package]\nname = \"{member}\"\nversion = \"{version}\"\nedition = \"2021\"\n");
        project.write(&format!("crates/{member}/Cargo.toml"), &of_member);
        project.write(&format!("crates/{member}/src/lib.rs"), "pub fn base() -> u32 { 1 }\n");
    }
    manifest += "[workspace]\nmembers = [\"crates/*\"]\n";
    if !is_split {
        manifest = manifest.replace("members = [\"crates/*\"]\n", "");
    }
    project.write("Cargo.toml", &manifest);
    let in_build = project.random.chance(50);
    let prelude = Language::Rust.prelude();
    let (mut of_build, mut of_test) = (String::new(), String::new());
    let mut attack_in_test = String::new();
    match &project.attack {
        Some(calls) if in_build => of_build = format!("fn attacked() {{\n{calls}}}\n{prelude}"),
        Some(calls) => {
            of_test = prelude.to_owned();
            attack_in_test = format!("#[test] fn another() {{\n{calls}}}\n");
        }
        None => {}
    }
    let call = if of_build.is_empty() { "" } else { "attacked();" };
    project.write(
        "build.rs",
        &format!(
            "{of_build}\nfn main() {{ {call}\n let out = std::env::var(\"OUT_DIR\").unwrap();\n \
             std::fs::write(format!(\"{{out}}/made.rs\"), \"pub const MADE: u32 = 7;\").unwrap();\n \
             println!(\"cargo:rerun-if-changed=build.rs\");\n}}\n"
        ),
    );
    let declared: String = modules.iter().map(|module| format!("pub mod {module};\n")).collect();
    let base = if is_split { format!("{}::base()", member.replace('-', "_")) } else { "1".to_owned() };
    project.write(
        "src/lib.rs",
        &format!(
            "{declared}include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\npub fn all() -> u32 {{ MADE + {base} }}\n"
        ),
    );
    for module in &modules {
        let number = project.random.between(1, 1000);
        project.write(
            &format!("src/{module}.rs"),
            &format!("pub fn value() -> u32 {{ {number} }}\n#[test]\nfn is_it() {{ assert_eq!(value(), {number}); }}\n"),
        );
    }
    project.write("src/main.rs", &format!("fn main() {{ println!(\"{{}}\", {name}::all()); }}\n"));
    let scratch = format!("{}-{}", project.random.word(), project.random.hex(6));
    let suite = *project.random.pick(&["whole", "smoke", "api"]);
    project.write(
        &format!("tests/{suite}.rs"),
        &format!(
            "{of_test}\n{attack_in_test}\n#[test]\nfn scratch() {{\n let place = std::env::temp_dir().join(\"{scratch}\");\n \
             std::fs::write(&place, \"x\").unwrap();\n std::fs::remove_file(place).unwrap();\n}}\n"
        ),
    );
    let jobs = project.random.between(1, 2);
    let mut steps = vec![format!("cargo build -q --offline -j{jobs}")];
    if project.random.chance(60) {
        steps.push("cargo run -q --offline".to_owned());
    }
    if project.random.chance(20) {
        steps.insert(0, "cargo check -q --offline".to_owned());
    }
    steps.push("cargo test -q --offline".to_owned());
    if project.random.chance(30) {
        steps.push("cargo clean -q --offline".to_owned());
    }
    project.job(&steps);
}
