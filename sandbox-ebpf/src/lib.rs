//! The ABI between the eBPF programs and userspace.
//!
//! `#[repr(C)]` structs of fixed-width integers with explicit padding; enumerations travel as raw integers
//! and are converted with `from_raw`, which maps what it does not know to `Unknown`. This crate holds no
//! logic: it is compiled both for `bpfel-unknown-none` and for the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
