//! The server through HTTP requests, in process.

mod harness;
mod verbs;
