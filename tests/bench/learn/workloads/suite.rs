//! The tests of a Python package: temporary files, a server of its own, programs of its own.

use super::{Project, Workload};
use crate::learn::attacks::Language;

pub const WORKLOAD: Workload = Workload {
    name: "unittest",
    title: "Python package, unittest",
    programs: &["/usr/bin/python3"],
    language: Language::Python,
    prepare,
};

const SERVER: &str = r#"
import http.server, threading, unittest, urllib.request
class Served(unittest.TestCase):
    def test_page(self):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler) as server:
            server.RequestHandlerClass.log_message = lambda *_: None
            threading.Thread(target=server.serve_forever, daemon=True).start()
            with urllib.request.urlopen(f"http://127.0.0.1:{server.server_port}/setup.cfg") as page:
                self.assertEqual(page.status, 200)
            server.shutdown()
"#;

fn prepare(project: &mut Project<'_>) {
    let name = project.random.word();
    let count = project.random.between(2, 6);
    let modules = project.random.words(count);
    let version = format!("{}.{}", project.random.between(0, 3), project.random.between(0, 12));
    project.write("setup.cfg", &format!("[metadata]\nname = {name}\nversion = {version}\n"));
    project.write(&format!("{name}_pkg/__init__.py"), &format!("__version__ = '{version}'\n"));
    project.write("tests/__init__.py", "");
    for module in &modules {
        let number = project.random.between(1, 500);
        project.write(&format!("{name}_pkg/{module}.py"), &format!("def value():\n    return {number}\n"));
        let prefix = project.random.word();
        let more = match project.random.between(0, 2) {
            0 => format!(
                "    def test_files(self):\n        with tempfile.TemporaryDirectory(prefix='{prefix}-') as place:\n            \
                 pathlib.Path(place, 'a').write_text('x')\n            self.assertEqual(os.listdir(place), ['a'])\n"
            ),
            1 => "    def test_file(self):\n        with tempfile.NamedTemporaryFile('w') as file:\n            file.write('x')\n"
                .to_owned(),
            _ => "    def test_program(self):\n        out = subprocess.run([sys.executable, '-c', 'print(1)'], \
                  capture_output=True)\n        self.assertEqual(out.stdout, b'1\\n')\n"
                .to_owned(),
        };
        project.write(
            &format!("tests/test_{module}.py"),
            &format!(
                "import os, pathlib, subprocess, sys, tempfile, unittest\nfrom {name}_pkg import {module}\n\
                 class Case(unittest.TestCase):\n    def test_value(self):\n        \
                 self.assertEqual({module}.value(), {number})\n{more}"
            ),
        );
    }
    if project.random.chance(70) {
        project.write("tests/test_served.py", SERVER);
    }
    if let Some(calls) = &project.attack {
        let text = format!("{}\n{calls}", Language::Python.prelude());
        project.write(&format!("tests/test_{}_more.py", modules[0]), &text);
    }
    let verbose = if project.random.chance(50) { " -v" } else { "" };
    let mut steps = vec![format!("python3 -m unittest discover{verbose} -s tests -t .")];
    if project.random.chance(60) {
        steps.insert(0, format!("python3 -m compileall -q {name}_pkg"));
    }
    if project.random.chance(60) {
        steps.push("rm -rf tests/__pycache__".to_owned());
    }
    project.job(&steps);
}
