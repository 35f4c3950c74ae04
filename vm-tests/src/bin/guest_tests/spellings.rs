//! A file system on which one file answers to several spellings of its name: hooks see the one that was called.

use crate::attempt::ACCES;
use crate::run::{Finished, complete};
use crate::{WORK, write};
use anyhow::{Context, Result, ensure};
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use vm_tests::module;
use vm_tests::wire::SPELLINGS;

/// Where it is mounted.
const PLACE: &str = "/srv/fat";
const DISK: &str = "/dev/loop0";
/// `LOOP_SET_FD` (include/uapi/linux/loop.h).
const LOOP_SET_FD: libc::c_ulong = 0x4c00;
const SECTOR: usize = 512;
const SECTORS: u16 = 64;

pub fn refused() -> Result<()> {
    make_disk()?;
    let secret = format!("{PLACE}/secret.txt");
    mount()?;
    fs::write(&secret, "secret")?;
    let loud = format!("{PLACE}/SECRET.TXT");
    ensure!(fs::read_to_string(&loud)? == "secret", "{loud} is another file");
    let (read, read_loud) = (format!("read={secret}"), format!("read={loud}"));
    // The kernel keeps the spelling that was called first, as long as it keeps the name at all.
    let steps = [read_loud.as_str(), read.as_str()];
    let run = |name: &str, options: &[&str]| {
        mount()?;
        complete(name, options, &steps)
    };
    let answers = |finished: &Finished, code: i32| -> Result<()> {
        ensure!(
            finished.stdout == format!("{read_loud}\t{code}\n{read}\t{code}\n"),
            "{}{}",
            finished.stdout,
            finished.stderr
        );
        Ok(())
    };
    let denies = |name: &str, pattern: &str| {
        let text = format!(
            "version: 1\nname: spelled\nfiles:\n  default: allow\n  rules:\n    \
             - {{ name: secret, deny: [read], path: [\"{pattern}\"] }}\n"
        );
        write(&format!("spelled-{name}.yaml"), &text)
    };

    let by_name = denies("name", &secret)?;
    let finished = run("spelled-name", &["--enforce", &by_name])?;
    let told =
        "rule `spelled/secret` goes by the spelling of names in /srv/fat (vfat), where one file has several";
    ensure!(
        finished.status.code().is_some_and(|code| code != 0)
            && finished.stdout.is_empty()
            && finished.stderr.contains(told),
        "{:?} {}{}",
        finished.status,
        finished.stdout,
        finished.stderr
    );
    // Whoever goes on without it is told. What it meets depends on who called the file first, and by which spelling: here
    // the runner, which looked for its other names.
    let finished = run("spelled-anyway", &["--enforce", &by_name, "--best-effort"])?;
    finished.expect_code(0)?;
    ensure!(finished.stderr.contains(told), "{}", finished.stderr);
    // A rule on all that is there needs no spelling.
    let whole = denies("whole", &format!("{PLACE}/**"))?;
    let finished = run("spelled-whole", &["--enforce", &whole])?;
    ensure!(!finished.stderr.contains("spelling"), "{}", finished.stderr);
    answers(&finished, ACCES)?;
    // One on names anywhere is not refused for what happens to be mounted.
    let anywhere = denies("anywhere", "**/secret.txt")?;
    let finished = run("spelled-anywhere", &["--enforce", &anywhere])?;
    let told = "in /srv/fat (vfat) one file has several spellings";
    ensure!(finished.stderr.contains(told), "{}", finished.stderr);
    answers(&finished, 0)
}

/// Makes the disk, with the file system on it. The kernel holds on to the image.
fn make_disk() -> Result<()> {
    for name in SPELLINGS {
        module::load(name)?;
    }
    let path = format!("{WORK}/fat.img");
    fs::write(&path, formatted())?;
    let image = File::options().read(true).write(true).open(&path)?;
    let disk =
        File::options().read(true).write(true).open(DISK).with_context(|| format!("cannot open {DISK}"))?;
    // SAFETY: both descriptors are open, and the call takes no pointer.
    let set = unsafe { libc::ioctl(disk.as_raw_fd(), LOOP_SET_FD as _, image.as_raw_fd()) };
    // A trial before may have come no further.
    if set != 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EBUSY) {
        return Err(io::Error::last_os_error()).context("LOOP_SET_FD");
    }
    Ok(())
}

/// Mounts it afresh: no name in it is remembered.
fn mount() -> Result<()> {
    use nix::mount::{MsFlags, mount, umount};
    fs::create_dir_all(PLACE)?;
    let _ = umount(PLACE);
    mount(Some(DISK), PLACE, Some("vfat"), MsFlags::empty(), None::<&str>)
        .context("cannot mount the file system")
}

/// An empty FAT12 (Microsoft's FAT specification): a boot sector, one table, one sector for the root directory.
fn formatted() -> Vec<u8> {
    let mut disk = vec![0u8; SECTOR * usize::from(SECTORS)];
    disk[..3].copy_from_slice(&[0xeb, 0x3c, 0x90]);
    disk[3..11].copy_from_slice(b"MSDOS5.0");
    disk[11..13].copy_from_slice(&(SECTOR as u16).to_le_bytes());
    // Sectors of a cluster, and reserved ones; tables.
    disk[13] = 1;
    disk[14] = 1;
    disk[16] = 1;
    // Entries of the root directory, and sectors in all.
    disk[17] = 16;
    disk[19..21].copy_from_slice(&SECTORS.to_le_bytes());
    disk[21] = 0xf8;
    // Sectors of a table, of a track, and heads.
    disk[22] = 1;
    disk[24] = 1;
    disk[26] = 1;
    disk[36] = 0x80;
    disk[38] = 0x29;
    disk[43..54].copy_from_slice(b"NO NAME    ");
    disk[54..62].copy_from_slice(b"FAT12   ");
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    // The table begins with the medium and the end mark.
    disk[SECTOR..SECTOR + 3].copy_from_slice(&[0xf8, 0xff, 0xff]);
    disk
}
