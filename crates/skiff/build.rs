//! How the program is linked.
//!
//! A static program relocates itself when it starts, every shim too: two megabytes of relocations, read once and resident
//! ever after. Packed they are a few pages.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    // The profile says so for all crates, but Cargo forgets it of a package that has an `opt-level` of its own.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
    }
}
