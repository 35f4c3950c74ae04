//! file_receive: descriptors that come from another process, by a socket (SCM_RIGHTS) or by pidfd_getfd(2).
//!
//! What was opened outside was judged by nobody. A file is judged as if it were opened now, with the access that the
//! descriptor gives; a connected socket as if it connected now.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use sandbox_ebpf::abi::{
    event::Kind,
    policy::{access, net_access},
};

use super::{EACCES, Matter, Subject, Tell, device, file, kernel, net};
use crate::offsets::{self, field};

/// f_mode bits.
const FMODE_READ: u32 = 1;
const FMODE_WRITE: u32 = 2;
const S_IFMT: u16 = 0o170_000;
const S_IFSOCK: u16 = 0o140_000;

/// file_receive(file)
#[lsm(hook = "file_receive")]
pub fn file_receive(ctx: LsmContext) -> i32 {
    let subject = match Subject::of_hook(ctx.arg(1), EACCES) {
        Ok(subject) => subject,
        Err(answer) => return answer,
    };
    if !subject.judged() {
        return 0;
    }
    let file: *const u8 = ctx.arg(0);
    let inode: u64 = field(file as u64, &offsets::FILE_F_INODE);
    if field::<u16>(inode, &offsets::INODE_MODE) & S_IFMT == S_IFSOCK {
        let socket: u64 = field(file as u64, &offsets::FILE_PRIVATE_DATA);
        return net::judge_received(&subject, socket, net_access::CONNECT);
    }
    let mode: u32 = field(file as u64, &offsets::FILE_F_MODE);
    let wanted =
        access::READ * (mode & FMODE_READ != 0) as u16 | access::WRITE * (mode & FMODE_WRITE != 0) as u16;
    if wanted == 0 {
        // Only a place to start from (O_PATH): what is reached from there is judged.
        return 0;
    }
    let act = device::act(file as u64, wanted);
    if act != 0 && kernel::closes(&subject, act) {
        let flags: u32 = field(file as u64, &offsets::FILE_F_FLAGS);
        return kernel::judge_open(&subject, act, file as u64, flags);
    }
    let matter = Matter {
        check: Kind::ReceiveCheck,
        calls: [Kind::Unknown; 3],
        access: wanted,
        tell: Tell::Denials,
        entered: false,
    };
    file::judge(&subject, file, matter)
}
