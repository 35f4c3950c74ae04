//! A C project with make: sources, a library, tests.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "make",
    title: "C project, make",
    programs: &["make", "cc", "ar"],
    language: Language::C,
    prepare,
};

fn prepare(project: &mut Project<'_>) {
    let count = project.random.between(3, 8);
    let parts = project.random.words(count);
    let name = project.random.word();
    let declared: String = parts.iter().map(|part| format!("int {part}(int);\n")).collect();
    project.write(&format!("include/{name}.h"), &declared);
    for part in &parts {
        let number = project.random.between(1, 99);
        let text = format!(
            "#include <stdio.h>\n#include \"{name}.h\"\nint {part}(int x) {{ return x + {number}; }}\n"
        );
        project.write(&format!("src/{part}.c"), &text);
    }
    let sum: Vec<String> = parts.iter().map(|part| format!("{part}(1)")).collect();
    let attack = match &project.attack {
        Some(calls) => format!(
            "{}\n__attribute__((constructor)) static void loaded(void) {{\n{calls}}}\n",
            Language::C.prelude()
        ),
        None => String::new(),
    };
    let main = format!(
        "{attack}#include <stdio.h>\n#include \"{name}.h\"\nint main(void) {{ printf(\"%d\\n\", {}); return 0; }}\n",
        sum.join(" + ")
    );
    project.write("src/main.c", &main);
    let tested = project.random.between(1, 3).min(parts.len());
    for part in &parts[..tested] {
        let text = format!("#include \"{name}.h\"\nint main(void) {{ return {part}(0) > 0 ? 0 : 1; }}\n");
        project.write(&format!("tests/test_{part}.c"), &text);
    }
    let optimise = *project.random.pick(&["-O0", "-O1", "-O2", "-O2 -g"]);
    let objects: Vec<String> = parts.iter().map(|part| format!("build/{part}.o")).collect();
    let tests: Vec<String> = parts[..tested].iter().map(|part| format!("build/test_{part}")).collect();
    let makefile = format!(
        "CFLAGS = {optimise} -Wall -Iinclude\nall: build/{name}\n\
         build:\n\tmkdir -p build\n\
         build/%.o: src/%.c | build\n\tcc $(CFLAGS) -c -o $@ $<\n\
         build/lib{name}.a: {objects}\n\tar rcs $@ $^\n\
         build/{name}: build/main.o build/lib{name}.a\n\tcc -o $@ $^\n\
         build/test_%: tests/test_%.c build/lib{name}.a\n\tcc $(CFLAGS) -o $@ $^\n\
         test: {tests}\n\tfor test in $^; do ./$$test || exit 1; done\n\
         install: all\n\tmkdir -p out/bin\n\tcp build/{name} out/bin/{name}\n\
         clean:\n\trm -rf build\n",
        objects = objects.join(" "),
        tests = tests.join(" "),
    );
    project.write("Makefile", &makefile);
    let jobs = project.random.between(1, 3);
    let mut steps = vec![format!("make -s -j{jobs}"), format!("build/{name}")];
    if project.random.chance(85) {
        steps.push("make -s test".to_owned());
    }
    if project.random.chance(70) {
        steps.push("make -s install".to_owned());
    }
    if project.random.chance(60) {
        steps.insert(0, "make -s clean".to_owned());
    }
    project.job(&steps);
}
