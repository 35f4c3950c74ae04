//! The `vm-tests` command: fetches kernels, runs one command inside one.

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;
use vm_tests::image::Image;
use vm_tests::kernel::{self, SERIES, Series};
use vm_tests::machine::Boot;
use vm_tests::{guest, workspace};

/// Real kernels in qemu.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Fetch Debian's kernels into .cache/kernels (or $VM_TESTS_KERNELS).
    Fetch,
    /// Boot a kernel, run one command as root inside, and exit with its status.
    #[command(
        after_help = "Example:\n  vm-tests exec --kernel 6.12 --bin sandbox -- /usr/bin/sandbox doctor"
    )]
    Exec(Exec),
}

#[derive(clap::Args)]
struct Exec {
    /// Series of the kernel.
    #[arg(long, default_value = "6.12")]
    kernel: String,
    /// More kernel parameters; `lsm=` replaces the guest's own.
    #[arg(long, default_value = "")]
    cmdline: String,
    /// Copy a file into the guest.
    #[arg(long, value_name = "HOST=GUEST")]
    file: Vec<String>,
    /// Build a binary of this workspace statically and put it into /usr/bin.
    #[arg(long, value_name = "NAME")]
    bin: Vec<String>,
    /// Seconds that the guest may take.
    #[arg(long, default_value_t = 60)]
    timeout: u64,
    /// Memory of the guest in MiB.
    #[arg(long, default_value_t = 1024)]
    memory: u32,
    /// The command; the guest has no shell and no PATH.
    #[arg(last = true, required = true)]
    command: Vec<String>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().verb {
        Verb::Fetch => fetch(),
        Verb::Exec(arguments) => exec(&arguments),
    };
    done.unwrap_or_else(|error| {
        eprintln!("vm-tests: {error:#}");
        ExitCode::from(125)
    })
}

fn fetch() -> Result<ExitCode> {
    for series in SERIES {
        let kernel = series.fetch(&kernel::cache(), |line| eprintln!("{line}"))?;
        println!("{} {} {}", series.name, kernel.release, kernel.image.display());
    }
    Ok(ExitCode::SUCCESS)
}

fn exec(arguments: &Exec) -> Result<ExitCode> {
    let kernel = Series::named(&arguments.kernel)?.find(&kernel::cache())?;
    let binaries: Vec<&str> =
        std::iter::once("guest-init").chain(arguments.bin.iter().map(String::as_str)).collect();
    let packages: &[&str] = if arguments.bin.is_empty() { &["vm-tests"] } else { &[] };
    let built = guest::build(packages, &binaries)?;
    let mut image = Image::new(&built[0], &kernel.config, &kernel.release)?;
    for (name, path) in binaries.iter().zip(&built).skip(1) {
        image.copy(path, &format!("/usr/bin/{name}"))?;
    }
    for pair in &arguments.file {
        let Some((from, to)) = pair.split_once('=').filter(|(_, to)| to.starts_with('/')) else {
            bail!("--file takes HOST=GUEST with an absolute path in the guest, not {pair:?}");
        };
        image.copy(&PathBuf::from(from), to).with_context(|| format!("cannot add {to}"))?;
    }
    let boot = Boot {
        kernel: &kernel,
        image: &image,
        argv: arguments.command.clone(),
        cmdline: arguments.cmdline.clone(),
        memory: arguments.memory,
        timeout: Duration::from_secs(arguments.timeout),
        dir: workspace().join(format!("target/vm/exec-{}", std::process::id())),
    };
    let mut stdout = std::io::stdout();
    let ended = boot.run(|line| stdout.write_all(line).and_then(|()| stdout.flush()));
    let outcome = ended.with_context(|| format!("console log in {}", boot.dir.display()))?;
    let _ = std::fs::remove_dir_all(&boot.dir);
    Ok(ExitCode::from(u8::try_from(outcome.code()).unwrap_or(u8::MAX)))
}
