//! Several runs with programs that are attached once: each task is judged by the policy of its own slot, and one slot's
//! policy changes without the others.

use crate::attempt::ACCES;
use crate::run::PROBE;
use crate::{Trial, WORK};
use anyhow::{Context, Result, ensure};
use policy::compile::lsm::{SetTable, compile};
use policy::{Policy, Variables};
use sandbox::enforce::lsm::{self, Installed, Known};
use sandbox::kernel::object::Object;
use sandbox_ebpf::abi::config::{Mode, RunConfig};
use std::fs::{self, File};
use std::process::{Child, Command, Stdio};

pub const TRIALS: &[Trial] = &[("two policies at once", two)];

const FILES: [&str; 3] = ["/srv/slots/a", "/srv/slots/b", "/srv/slots/c"];

/// Denies reading one of the files.
fn closes(object: &Object, slot: u32, id: u32, file: &str) -> Result<Installed> {
    let text = format!(
        "version: 1\nname: slot{slot}\nfiles:\n  default: allow\n  rules:\n    \
         - {{ name: r, deny: [read], path: [{file}] }}\nexec: {{ default: allow }}\n"
    );
    let policy = Policy::parse("slot.yaml", &text, &Variables::new())?;
    Ok(lsm::install(object, slot, &compile(&[&policy], id, &mut SetTable::new())?, lsm::Force::Whole)?)
}

/// A process that reads all files when it is told to, and again when it is told again.
fn reader(name: &str) -> Result<Child> {
    let reads: Vec<String> = FILES.iter().map(|file| format!("read={file}")).collect();
    let mut command = Command::new(PROBE);
    command.arg(format!("wait={WORK}/slots.go")).args(&reads).arg(format!("touch={WORK}/{name}.once"));
    command.arg(format!("wait={WORK}/slots.again")).args(&reads).stdin(Stdio::null());
    command.stdout(File::create(format!("{WORK}/{name}.stdout"))?);
    command.spawn().context("cannot run the probe")
}

/// What one round of reads printed.
fn round(denied: Option<&str>) -> String {
    let answer = |file: &&str| if denied == Some(file) { ACCES } else { 0 };
    FILES.iter().map(|file| format!("read={file}\t{}\n", answer(file))).collect()
}

fn two() -> Result<()> {
    fs::create_dir_all("/srv/slots")?;
    FILES.iter().try_for_each(|file| fs::write(file, "content"))?;
    let mut object = Object::load(true)?;
    lsm::attach(&mut object, Known::Path)?;
    let (_first, mut second) = (closes(&object, 0, 1, FILES[0])?, closes(&object, 1, 2, FILES[1])?);
    let mut readers = Vec::new();
    for (name, slot) in [("slots-0", Some(0)), ("slots-1", Some(1)), ("slots-outside", None)] {
        let child = reader(name)?;
        if let Some(slot) = slot {
            object.configure(slot, RunConfig { mode: Mode::Enforce as u32, ..RunConfig::default() })?;
            lsm::admit(&object, slot, child.id())?;
        }
        readers.push((name, child));
    }
    fs::write(format!("{WORK}/slots.go"), "")?;
    for (name, _) in &readers {
        while !fs::exists(format!("{WORK}/{name}.once"))? {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
    let _third = closes(&object, 1, 3, FILES[2])?;
    lsm::remove(&object, &mut second)?;
    fs::write(format!("{WORK}/slots.again"), "")?;
    let expected = [
        round(Some(FILES[0])).repeat(2),
        round(Some(FILES[1])) + &round(Some(FILES[2])),
        round(None).repeat(2),
    ];
    for ((name, mut child), expected) in readers.into_iter().zip(expected) {
        ensure!(child.wait()?.success(), "{name} failed");
        let found = fs::read_to_string(format!("{WORK}/{name}.stdout"))?;
        ensure!(found == expected, "{name}: {found}");
    }
    Ok(())
}
