//! npm: packages by name from a registry, packages beside the project with install scripts, then the project's own
//! scripts.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "npm",
    title: "npm install, install scripts",
    programs: &["npm", "node"],
    language: Language::Node,
    prepare,
};

fn prepare(project: &mut Project<'_>) {
    let name = project.random.word();
    let version = format!("{}.{}.0", project.random.between(0, 4), project.random.between(0, 30));
    let mut needs = vec![format!("\"{}\": \"^1.0.0\"", project.random.pick(&["netlab-top", "netlab-leaf"]))];
    let count = project.random.between(1, 3);
    let mut attack = project.attack.clone();
    for local in project.random.words(count) {
        let made = project.random.word();
        let manifest = format!(
            "{{ \"name\": \"{local}-tool\", \"version\": \"{version}\", \"scripts\": {{ \"postinstall\": \"node install.js\" }} }}\n"
        );
        project.write(&format!("packages/{local}/package.json"), &manifest);
        project.write(&format!("packages/{local}/index.js"), "module.exports = () => 42;\n");
        let attacked = match attack.take() {
            Some(calls) => format!("{}\n(async () => {{\n{calls}}})();\n", Language::Node.prelude()),
            None => String::new(),
        };
        let install = format!(
            "{attacked}require('fs').writeFileSync(__dirname + '/{made}.json', JSON.stringify({{ built: process.version }}));\n"
        );
        project.write(&format!("packages/{local}/install.js"), &install);
        needs.push(format!("\"{local}-tool\": \"file:packages/{local}\""));
    }
    let manifest = format!(
        "{{ \"name\": \"{name}\", \"version\": \"{version}\", \"scripts\": {{ \"build\": \"node scripts/build.js\", \
         \"test\": \"node scripts/test.js\" }}, \"dependencies\": {{ {} }} }}\n",
        needs.join(", ")
    );
    project.write("package.json", &manifest);
    let out = project.random.word();
    project.write(
        "scripts/build.js",
        &format!(
            "const fs = require('fs');\nfs.mkdirSync('dist', {{ recursive: true }});\n\
             fs.writeFileSync('dist/{out}.js', 'module.exports = 1;');\n"
        ),
    );
    project.write(
        "scripts/test.js",
        "const fs = require('fs'), os = require('os'), path = require('path');\n\
         const place = fs.mkdtempSync(path.join(os.tmpdir(), 'check-'));\n\
         fs.writeFileSync(path.join(place, 'a'), 'x');\nfs.rmSync(place, { recursive: true });\n",
    );
    let mut steps = vec!["npm install --no-fund --no-progress --foreground-scripts".to_owned()];
    if project.random.chance(70) {
        steps.push("npm run -s build".to_owned());
    }
    if project.random.chance(70) {
        steps.push("npm test -s".to_owned());
    }
    project.job(&steps);
}
