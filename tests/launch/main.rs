//! Starting a run, living through it and ending it: statuses, signals, terminals, descriptors, users, and what
//! happens when a process of the runner dies. What is recorded is the other tests' business.

mod deaths;
mod own_terminal;
mod processes;
mod signals;
mod statuses;
mod terminals;
mod transparency;
mod users;
