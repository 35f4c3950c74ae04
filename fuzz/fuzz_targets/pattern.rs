//! See `bodies/pattern.rs`.
#![no_main]

#[path = "../bodies/pattern.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::run(data);
});
