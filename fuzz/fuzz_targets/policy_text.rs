//! See `bodies/policy_text.rs`.
#![no_main]

#[path = "../bodies/policy_text.rs"]
mod body;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let _ = body::run(data);
});
