//! What the tests run inside the sandbox: the same system calls every time, each with the result that it
//! must have, so that a workload which goes wrong says so itself.
//!
//! It knows nothing of the sandbox.

mod load;
mod network;
mod odd;
mod paths;
mod processes;
mod sockets;
mod sys;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "usage: workload paths|too-long|processes|sockets DIR
       workload odd thread|compat|dirfd|long|daemon|failed-exec|link DIR
       workload open-close COUNT FILE      open and close FILE, COUNT times
       workload spawn COUNT PROGRAM        fork and exec PROGRAM, COUNT times
       workload flood PROCESSES COUNT FILE each process opens FILE, COUNT times
       workload serve                      serve what follows, on every address, until the input ends
       workload connections COUNT SERVER   connect and close, COUNT times
       workload datagrams COUNT SERVER     send COUNT datagrams
       workload questions COUNT RESOLVER NAME fresh|reused|library
       workload download|upload BYTES SERVER";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u32>().expect("a number");
    match args.as_slice() {
        ["paths", dir] => paths::run(Path::new(dir)),
        ["too-long", dir] => paths::too_long(Path::new(dir)),
        ["processes", dir] => processes::run(Path::new(dir)),
        ["sockets", dir] => sockets::run(Path::new(dir)),
        ["odd", what, dir] => odd::run(what, Path::new(dir)),
        ["open-close", count, file] => load::open_close(number(count), file),
        ["spawn", count, program] => load::spawn(number(count), program),
        ["flood", processes, count, file] => load::flood(number(processes), number(count), file),
        ["serve"] => network::serve(),
        ["connections", count, server] => network::connections(number(count), server),
        ["datagrams", count, server] => network::datagrams(number(count), server),
        ["questions", count, resolver, name, how] => {
            network::questions(number(count), resolver, name, how);
        }
        ["download", bytes, server] => network::transfer(number(bytes) as usize, server, false),
        ["upload", bytes, server] => network::transfer(number(bytes) as usize, server, true),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    }
    ExitCode::SUCCESS
}
