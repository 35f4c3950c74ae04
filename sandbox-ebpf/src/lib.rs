//! What the eBPF programs share with userspace.
//!
//! [`abi`] is the border between the two: `#[repr(C)]` structs of fixed-width integers with explicit padding;
//! enumerations travel as raw integers and are converted with `from_raw`, which maps what it does not know to
//! `Unknown`. [`hello`] is the one piece of logic, which the programs run and the host tests. This crate is compiled
//! both for `bpfel-unknown-none` and for the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod abi;
pub mod hello;
