//! Tells the binary which compiler and which revision it was built with (`golive_build_info`).

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=GOLIVE_REVISION");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = Command::new(rustc)
        .arg("--version")
        .output()
        .ok()
        .and_then(|output| String::from_utf8(output.stdout).ok())
        // "rustc 1.95.0 (hash date)" becomes "1.95.0".
        .and_then(|text| text.split_whitespace().nth(1).map(str::to_owned))
        .unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=GOLIVE_RUSTC={version}");
    let revision = std::env::var("GOLIVE_REVISION").unwrap_or_else(|_| "unknown".to_owned());
    println!("cargo::rustc-env=GOLIVE_REVISION={revision}");
}
