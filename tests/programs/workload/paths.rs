//! Names: relative, through links and descriptors, made, renamed, deleted, refused.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::{
    AT_FDCWD, AT_REMOVEDIR, EACCES, EBADF, EEXIST, EFAULT, EINVAL, EISDIR, ELOOP, ENAMETOOLONG, ENOENT,
    ENOTDIR, ENOTEMPTY, EXDEV, O_CREAT, O_DIRECTORY, O_EXCL, O_NOFOLLOW, O_PATH, O_RDONLY, O_RDWR, O_TMPFILE,
    O_TRUNC, O_WRONLY,
};

use crate::sys::{become_nobody, bytes_of, call, fails, in_child, works};

/// Everything, below `dir`, which must be empty.
pub fn run(dir: &Path) {
    let dir = CString::new(dir.as_os_str().as_bytes()).expect("no NUL in a path");
    works(call!(chdir, &*dir));
    opens();
    descriptors();
    links();
    renames();
    the_directory_itself_moves();
    deletes();
    strange_names();
    deep();
    cold_pages();
    threads(&dir);
    objects_without_a_name();
    in_child(refused);
    in_child(mounts);
    in_child(another_root);
}

fn close(fd: i32) {
    nix::unistd::close(fd).expect("close");
}

fn make(name: &CStr) {
    close(works(call!(openat, AT_FDCWD, name, O_WRONLY | O_CREAT | O_EXCL, 0o644)));
}

fn opens() {
    fails(call!(open, c"missing", O_RDONLY), ENOENT);
    fails(call!(openat, AT_FDCWD, c"missing/x", O_RDONLY), ENOENT);
    close(works(call!(creat, c"made", 0o644)));
    close(works(call!(creat, c"made", 0o644)));
    close(works(call!(open, c"./made", O_RDWR)));
    close(works(call!(openat, AT_FDCWD, c"made2", O_RDWR | O_CREAT, 0o600)));
    close(works(call!(openat, AT_FDCWD, c".//made2", O_RDWR | O_CREAT | O_TRUNC, 0o600)));
    fails(call!(openat, AT_FDCWD, c"made", O_WRONLY | O_CREAT | O_EXCL, 0o644), EEXIST);
    fails(call!(openat, AT_FDCWD, c"made/x", O_RDONLY), ENOTDIR);
    fails(call!(openat, AT_FDCWD, c"made", O_RDONLY | O_DIRECTORY), ENOTDIR);
    fails(call!(openat, AT_FDCWD, c".", O_WRONLY), EISDIR);
    fails(call!(openat, AT_FDCWD, c"", O_RDONLY), ENOENT);
    fails(call!(openat, AT_FDCWD, 8, O_RDONLY), EFAULT);
    fails(call!(openat, 999, c"made", O_RDONLY), EBADF);
    let how = |flags: i32, resolve: u64| [flags as u64, 0, resolve];
    let beneath = how(O_RDONLY, libc::RESOLVE_BENEATH);
    fails(call!(openat2, AT_FDCWD, c"../x", bytes_of(&beneath), 24), EXDEV);
    close(works(call!(openat2, AT_FDCWD, c"made", bytes_of(&beneath), 24)));
    let unknown = how(O_RDONLY, 1 << 40);
    fails(call!(openat2, AT_FDCWD, c"made", bytes_of(&unknown), 24), EINVAL);
    let creates = [(O_CREAT | O_EXCL | O_WRONLY) as u64, 0o644, 0];
    close(works(call!(openat2, AT_FDCWD, c"made3", bytes_of(&creates), 24)));
    close(works(call!(openat, AT_FDCWD, c".", O_TMPFILE | O_RDWR, 0o600)));
    close(works(call!(openat, AT_FDCWD, c"made", O_PATH)));
    close(works(call!(open, c"/../etc/./hostname", O_RDONLY)));
    close(works(call!(open, c"/dev/null", O_RDWR)));
    close(works(call!(open, c"/proc/self/stat", O_RDONLY)));
    close(works(call!(open, c"/proc/self/cwd/made", O_RDONLY)));
    close(works(call!(open, c"/proc/self/root/etc/hostname", O_RDONLY)));
    fails(call!(open, c"/proc/self/fd/999", O_RDONLY), ENOENT);
}

fn descriptors() {
    works(call!(mkdir, c"d", 0o755));
    works(call!(mkdir, c"d/e", 0o755));
    let d = works(call!(openat, AT_FDCWD, c"d", O_PATH | O_DIRECTORY));
    let e = works(call!(openat, d, c"e", O_RDONLY | O_DIRECTORY));
    close(works(call!(openat, e, c"one", O_WRONLY | O_CREAT | O_EXCL, 0o644)));
    close(works(call!(openat, d, c"e/one", O_RDONLY)));
    close(works(call!(openat, e, c"../e/one", O_RDONLY)));
    close(works(call!(openat, e, c"../../made", O_RDONLY)));
    fails(call!(openat, e, c"../../../nothing/../here", O_RDONLY), ENOENT);
    fails(call!(openat, d, c"e/../two", O_RDONLY), ENOENT);
    close(works(call!(openat, d, c"/etc/hostname", O_RDONLY)));
    let one = works(call!(openat, e, c"one", O_RDONLY));
    fails(call!(openat, one, c"x", O_RDONLY), ENOTDIR);
    works(call!(mkdirat, d, c"f", 0o700));
    fails(call!(mkdirat, d, c"f", 0o700), EEXIST);
    fails(call!(mkdirat, d, c"g/h", 0o700), ENOENT);
    works(call!(renameat, e, c"one", d, c"f/two"));
    works(call!(fchdir, e));
    fails(call!(open, c"one", O_RDONLY), ENOENT);
    fails(call!(unlink, c"one"), ENOENT);
    works(call!(unlinkat, d, c"f/two", 0));
    works(call!(unlinkat, d, c"f", AT_REMOVEDIR));
    works(call!(chdir, c".."));
    fails(call!(unlink, c"three"), ENOENT);
    works(call!(chdir, c".."));
    // The directories move while descriptors lead to them.
    works(call!(rename, c"d", c"d2"));
    fails(call!(openat, e, c"moved", O_RDONLY), ENOENT);
    fails(call!(unlinkat, e, c"../moved", 0), ENOENT);
    works(call!(renameat, AT_FDCWD, c"d2", d, c"../d"));
    for fd in [one, e, d] {
        close(fd);
    }
}

fn links() {
    works(call!(symlink, c"made", c"to-made"));
    works(call!(symlink, c"nowhere", c"dangling"));
    works(call!(symlink, c"loop-b", c"loop-a"));
    works(call!(symlink, c"loop-a", c"loop-b"));
    works(call!(symlinkat, c"d", AT_FDCWD, c"to-d"));
    fails(call!(symlink, c"other", c"to-made"), EEXIST);
    close(works(call!(open, c"to-made", O_RDONLY)));
    fails(call!(open, c"to-made", O_RDONLY | O_NOFOLLOW), ELOOP);
    close(works(call!(open, c"to-made", O_PATH | O_NOFOLLOW)));
    fails(call!(open, c"dangling", O_RDONLY), ENOENT);
    fails(call!(open, c"loop-a", O_RDONLY), ELOOP);
    fails(call!(open, c"loop-a/x", O_RDONLY), ELOOP);
    close(works(call!(open, c"dangling", O_WRONLY | O_CREAT, 0o644)));
    works(call!(unlink, c"nowhere"));
    // A start directory reached through a link is the real one.
    works(call!(chdir, c"to-d/e"));
    fails(call!(open, c"../here", O_RDONLY), ENOENT);
    fails(call!(openat, AT_FDCWD, c"../here", O_RDONLY), ENOENT);
    fails(call!(rename, c"../here", c"there"), ENOENT);
    works(call!(chdir, c"../.."));
    works(call!(link, c"made", c"hard"));
    fails(call!(link, c"missing", c"hard2"), ENOENT);
    works(call!(linkat, AT_FDCWD, c"to-made", AT_FDCWD, c"d/hard3", libc::AT_SYMLINK_FOLLOW));
    close(works(call!(open, c"to-d/hard3", O_RDONLY)));
    let held = works(call!(open, c"hard", O_RDONLY));
    works(call!(unlink, c"hard"));
    let through = CString::new(format!("/proc/self/fd/{held}")).expect("no NUL");
    close(works(call!(open, &*through, O_RDONLY)));
    close(held);
}

fn renames() {
    make(c"r1");
    works(call!(rename, c"r1", c"./d/../r2"));
    works(call!(rename, c"r2", c"d/r3"));
    works(call!(rename, c"d/r3", c"r4"));
    fails(call!(rename, c"r1", c"r5"), ENOENT);
    make(c"r6");
    let exchange = libc::RENAME_EXCHANGE as i32;
    works(call!(renameat2, AT_FDCWD, c"r4", AT_FDCWD, c"r6", exchange));
    fails(call!(renameat2, AT_FDCWD, c"r4", AT_FDCWD, c"r7", exchange), ENOENT);
    fails(call!(renameat2, AT_FDCWD, c"r4", AT_FDCWD, c"r6", libc::RENAME_NOREPLACE as i32), EEXIST);
    works(call!(renameat2, AT_FDCWD, c"r4", AT_FDCWD, c"r6", 0));
    fails(call!(rename, c"d", c"d/e/d"), EINVAL);
    fails(call!(rename, c"r6", c"d"), EISDIR);
    fails(call!(rename, c"d/e", c"made"), ENOTDIR);
    works(call!(mkdir, c"full", 0o755));
    make(c"full/x");
    works(call!(mkdir, c"empty", 0o755));
    fails(call!(rename, c"empty", c"full"), ENOTEMPTY);
    fails(call!(rename, c"r6", c"/proc/self/r6"), EXDEV);
    works(call!(rename, c"to-d", c"link-to-d"));
    works(call!(unlink, c"r6"));
}

fn the_directory_itself_moves() {
    works(call!(mkdir, c"here", 0o755));
    works(call!(mkdir, c"here/inner", 0o755));
    works(call!(chdir, c"here"));
    works(call!(rename, c"../here", c"../there"));
    fails(call!(open, c"x1", O_RDONLY), ENOENT);
    fails(call!(openat, AT_FDCWD, c"x2", O_RDONLY), ENOENT);
    works(call!(chdir, c"inner"));
    works(call!(rename, c"../../there", c"../../again"));
    fails(call!(openat, AT_FDCWD, c"x3", O_RDONLY), ENOENT);
    fails(call!(unlink, c"../x4"), ENOENT);
    works(call!(renameat2, AT_FDCWD, c"../../again", AT_FDCWD, c"../../d", libc::RENAME_EXCHANGE as i32));
    fails(call!(openat, AT_FDCWD, c"x5", O_RDONLY), ENOENT);
    fails(call!(unlink, c"../../x6"), ENOENT);
    works(call!(renameat2, AT_FDCWD, c"../../again", AT_FDCWD, c"../../d", libc::RENAME_EXCHANGE as i32));
    fails(call!(openat, AT_FDCWD, c"x7", O_RDONLY), ENOENT);
    works(call!(unlinkat, AT_FDCWD, c"../inner", AT_REMOVEDIR));
    // The directory is gone; what is looked for in it is not there.
    fails(call!(openat, AT_FDCWD, c"x8", O_RDONLY), ENOENT);
    fails(call!(openat, AT_FDCWD, c"x9", O_WRONLY | O_CREAT, 0o644), ENOENT);
    let up = works(call!(openat, AT_FDCWD, c"../..", O_RDONLY | O_DIRECTORY));
    works(call!(fchdir, up));
    close(up);
    works(call!(rmdir, c"again"));
}

fn deletes() {
    make(c"u1");
    works(call!(unlink, c"u1"));
    fails(call!(unlink, c"u1"), ENOENT);
    fails(call!(unlink, c"d"), EISDIR);
    fails(call!(unlinkat, AT_FDCWD, c"made", AT_REMOVEDIR), ENOTDIR);
    fails(call!(unlinkat, AT_FDCWD, c"d/../missing", 0), ENOENT);
    fails(call!(rmdir, c"full"), ENOTEMPTY);
    fails(call!(rmdir, c"made"), ENOTDIR);
    works(call!(rmdir, c"empty/"));
    fails(call!(unlinkat, 999, c"x", 0), EBADF);
    fails(call!(rmdir, c"/"), libc::EBUSY);
}

fn strange_names() {
    for name in [
        c"a b",
        c"new\nline",
        c"\x1b[31mred",
        c"\xff\xfe",
        c"\xc3\xa9",
        c"quote\"back\\slash",
        c"<>",
        c"\x7f",
        c" (deleted)",
    ] {
        make(name);
        works(call!(rename, name, c"plain"));
        works(call!(rename, c"plain", name));
        let held = works(call!(open, name, O_RDONLY));
        works(call!(unlink, name));
        fails(call!(open, name, O_RDONLY), ENOENT);
        close(held);
    }
    let component = CString::new(vec![b'y'; 300]).expect("no NUL");
    fails(call!(open, &*component, O_RDONLY), ENAMETOOLONG);
    let path = CString::new("z/".repeat(3000)).expect("no NUL");
    fails(call!(open, &*path, O_RDONLY), ENAMETOOLONG);
    let long = CString::new(vec![b'n'; 255]).expect("no NUL");
    make(&long);
    works(call!(unlink, &*long));
}

/// Forty directories, some 2,500 bytes.
fn deep() {
    let name = CString::new(vec![b'p'; 60]).expect("no NUL");
    let top = works(call!(openat, AT_FDCWD, c".", O_PATH | O_DIRECTORY));
    for _ in 0..40 {
        works(call!(mkdir, &*name, 0o755));
        works(call!(chdir, &*name));
    }
    make(c"bottom");
    fails(call!(openat, AT_FDCWD, c"missing", O_RDONLY), ENOENT);
    works(call!(rename, c"bottom", c"ground"));
    works(call!(unlink, c"ground"));
    works(call!(fchdir, top));
    close(top);
}

/// A directory whose own path is longer than PATH_MAX, made step by step below `dir`.
pub fn too_long(dir: &Path) {
    let dir = CString::new(dir.as_os_str().as_bytes()).expect("no NUL in a path");
    works(call!(chdir, &*dir));
    let name = CString::new(vec![b'q'; 200]).expect("no NUL");
    for _ in 0..30 {
        works(call!(mkdir, &*name, 0o755));
        works(call!(chdir, &*name));
    }
    make(c"at-the-bottom");
    fails(call!(openat, AT_FDCWD, c"missing-at-the-bottom", O_RDONLY), ENOENT);
}

/// Names that no page of this process holds yet: the kernel is the first to touch them. Each begins at the
/// end of one page and ends in the next.
fn cold_pages() {
    const PAGE: usize = 4096;
    let names = ["cold-open", "cold-unlink", "cold-rename", "cold-new", "cold-exec", "cold-made"];
    let start = |index: usize| 2 * index * PAGE + PAGE - 4;
    let mut text = vec![0u8; 2 * PAGE * names.len()];
    for (index, name) in names.iter().enumerate() {
        text[start(index)..][..name.len()].copy_from_slice(name.as_bytes());
    }
    std::fs::write("names", &text).expect("write the names");
    let file = std::fs::File::open("names").expect("open the names");
    let map = Mapping::of(&file, text.len());
    let name = |index: usize| map.address + start(index) as i64;
    fails(call!(openat, AT_FDCWD, name(0), O_RDONLY), ENOENT);
    fails(call!(unlink, name(1)), ENOENT);
    fails(call!(rename, name(2), name(3)), ENOENT);
    fails(call!(execve, name(4), &[c"cold".as_ptr(), std::ptr::null()][..], 0), ENOENT);
    close(works(call!(openat, AT_FDCWD, name(5), O_WRONLY | O_CREAT | O_EXCL, 0o644)));
    works(call!(unlink, c"cold-made"));
    works(call!(unlink, c"names"));
}

/// A file mapped for reading, none of it resident in this process.
struct Mapping {
    address: i64,
    length: usize,
}

impl Mapping {
    fn of(file: &std::fs::File, length: usize) -> Self {
        use std::os::fd::AsRawFd;
        // SAFETY: a new mapping at an address of the kernel's choice; nothing else knows of it.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), length, libc::PROT_READ, libc::MAP_PRIVATE, file.as_raw_fd(), 0)
        };
        assert_ne!(address, libc::MAP_FAILED, "mmap");
        // SAFETY: the mapping just made; the advice keeps the kernel from mapping pages around a fault.
        unsafe { libc::madvise(address, length, libc::MADV_RANDOM) };
        Mapping { address: address as i64, length }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping that `of` made, of the same length; no reference into it exists.
        unsafe { libc::munmap(self.address as *mut libc::c_void, self.length) };
    }
}

/// Pipes and memory, opened again through /proc; a terminal.
fn objects_without_a_name() {
    use std::os::fd::AsRawFd;
    let again = |fd: i32, flags: i32| {
        let name = CString::new(format!("/proc/self/fd/{fd}")).expect("no NUL");
        close(works(call!(open, &*name, flags)));
    };
    let (reader, writer) = nix::unistd::pipe().expect("pipe");
    again(reader.as_raw_fd(), O_RDONLY);
    again(writer.as_raw_fd(), O_WRONLY);
    let memory = works(call!(memfd_create, c"some memory", 0));
    again(memory, O_RDWR);
    close(memory);
    // Made only where there are pseudo-terminals; both witnesses tell either alike.
    if let Ok(terminal) = call!(open, c"/dev/ptmx", O_RDWR | libc::O_NOCTTY) {
        close(terminal);
    }
}

/// A root of its own: the log still tells the paths that everybody else sees.
fn another_root() {
    works(call!(mkdir, c"root", 0o755));
    works(call!(mkdir, c"root/inner", 0o755));
    make(c"root/inner/file");
    if call!(chroot, c"root").is_err() {
        return;
    }
    close(works(call!(open, c"/inner/file", O_RDONLY)));
    works(call!(chdir, c"/inner"));
    close(works(call!(openat, AT_FDCWD, c"file", O_RDONLY)));
    close(works(call!(openat, AT_FDCWD, c"new", O_WRONLY | O_CREAT | O_EXCL, 0o644)));
    fails(call!(openat, AT_FDCWD, c"missing", O_RDONLY), ENOENT);
}

/// Threads that share the directory, and one that has its own.
fn threads(dir: &CStr) {
    std::thread::scope(|scope| {
        for thread in 0..4 {
            scope.spawn(move || {
                for round in 0..8 {
                    let name = CString::new(format!("thread-{thread}-{round}")).expect("no NUL");
                    make(&name);
                    works(call!(unlink, &*name));
                    fails(call!(open, &*name, O_RDONLY), ENOENT);
                }
            });
        }
        scope.spawn(move || {
            works(call!(unshare, libc::CLONE_FS));
            works(call!(chdir, c"d"));
            fails(call!(open, c"own-directory", O_RDONLY), ENOENT);
            fails(call!(openat, AT_FDCWD, c"own-directory", O_RDONLY), ENOENT);
            works(call!(chdir, dir));
        });
    });
}

/// What ordinary permissions refuse.
fn refused() {
    make(c"secret");
    works(call!(mkdir, c"locked", 0o700));
    make(c"locked/inside");
    std::fs::set_permissions("secret", std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let locked = works(call!(openat, AT_FDCWD, c"locked", O_PATH | O_DIRECTORY));
    if !become_nobody() {
        fails(call!(execve, c"./made", &[c"made".as_ptr(), std::ptr::null()][..], 0), EACCES);
        fails(call!(symlink, c"made", c"/etc/no-such-name"), EACCES);
        return fails(call!(open, c"/etc/shadow", O_RDONLY), EACCES);
    }
    fails(call!(open, c"secret", O_RDONLY), EACCES);
    fails(call!(open, c"locked/inside", O_RDONLY), EACCES);
    fails(call!(openat, locked, c"inside", O_RDONLY), EACCES);
    fails(call!(openat, AT_FDCWD, c"mine", O_WRONLY | O_CREAT, 0o644), EACCES);
    fails(call!(unlink, c"secret"), EACCES);
    fails(call!(unlinkat, locked, c"inside", 0), EACCES);
    fails(call!(rename, c"secret", c"mine"), EACCES);
    fails(call!(mkdir, c"mine", 0o755), EACCES);
    fails(call!(rmdir, c"d"), EACCES);
    fails(call!(symlink, c"made", c"mine"), EACCES);
    fails(call!(execve, c"./made", &[c"made".as_ptr(), std::ptr::null()][..], 0), EACCES);
    fails(call!(open, c"/etc/shadow", O_RDONLY), EACCES);
}

/// File systems of its own, where the account may mount.
fn mounts() {
    let private = (libc::MS_REC | libc::MS_PRIVATE) as i64;
    if call!(unshare, libc::CLONE_NEWNS).is_err() || call!(mount, 0, c"/", 0, private).is_err() {
        return;
    }
    works(call!(mkdir, c"mnt", 0o755));
    if call!(mount, c"none", c"mnt", c"tmpfs", 0, 0).is_err() {
        return;
    }
    works(call!(mkdir, c"mnt/sub", 0o755));
    make(c"mnt/sub/file");
    works(call!(mkdir, c"bound", 0o755));
    works(call!(mount, c"mnt/sub", c"bound", 0, libc::MS_BIND as i64));
    close(works(call!(open, c"bound/file", O_RDONLY)));
    close(works(call!(open, c"mnt/sub/file", O_RDONLY)));
    works(call!(chdir, c"bound"));
    close(works(call!(openat, AT_FDCWD, c"file", O_RDONLY)));
    fails(call!(openat, AT_FDCWD, c"missing", O_RDONLY), ENOENT);
    fails(call!(openat, AT_FDCWD, c"../missing", O_RDONLY), ENOENT);
    fails(call!(rename, c"file", c"../out"), EXDEV);
    works(call!(unlink, c"file"));
}
