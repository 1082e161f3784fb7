//! What a user gets: a crate that depends on this one by path, and the package that is published.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The longest file of the package, in bytes.
const PACKED_LEN_MAX: u64 = 100 * 1024;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn cargo() -> Command {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.env_remove("RUSTFLAGS").env("CARGO_NET_OFFLINE", "true");
    cargo
}

fn run(command: &mut Command) -> String {
    let output = command.output().expect("the command starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{command:?}: {}", text(&output.stderr));
    text(&output.stdout)
}

/// A copy of the crate outside the repository's folders, with the versions that the library is
/// tested with.
fn outside() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join("outside");
    fs::create_dir_all(home.join("src")).expect("a folder for the crate");
    let from = root().join("tests/outside");
    let manifest = fs::read_to_string(from.join("Cargo.toml")).expect("its manifest");
    let manifest = manifest.replace("../..", &root().display().to_string().replace('\\', "/"));
    fs::write(home.join("Cargo.toml"), manifest).expect("its manifest is written");
    fs::copy(from.join("src/main.rs"), home.join("src/main.rs")).expect("its source");
    fs::copy(root().join("Cargo.lock"), home.join("Cargo.lock")).expect("the lock file");
    home
}

#[test]
fn a_crate_outside_the_workspace_issues_and_verifies() {
    let home = outside();
    let target = home.join("target");
    run(cargo().current_dir(&home).args(["build", "--quiet"]).env("CARGO_TARGET_DIR", &target));
    let data = home.join("data");
    let _ = fs::remove_dir_all(&data);
    let _ = fs::remove_file(home.join("data.key"));
    let said = run(Command::new(target.join("debug/outside")).arg(&data));
    assert_eq!(said.trim(), "issued, verified, introspected, revoked");
    let lines = fs::read_to_string(home.join("src/main.rs")).expect("its source").lines().count();
    assert!(lines <= 45, "an example of {lines} lines is none");
}

#[test]
fn the_package_holds_what_a_user_needs_and_no_more() {
    let list = run(cargo().current_dir(root()).args(["package", "--list", "--allow-dirty"]));
    let files: Vec<&str> = list.lines().collect();
    for needed in ["Cargo.toml", "README.md", "LICENSE-MIT", "LICENSE-APACHE", "src/lib.rs"] {
        assert!(files.contains(&needed), "{needed} is missing");
    }
    for file in files {
        let unwanted = ["fuzz/", ".ci/", "tests/data/", "mintage-data"];
        assert!(!unwanted.iter().any(|start| file.starts_with(start)), "{file} is packed");
        // Some files of the list are made by the packing itself.
        let len = fs::metadata(root().join(file)).map_or(0, |meta| meta.len());
        assert!(len <= PACKED_LEN_MAX, "{file} has {len} bytes");
    }
}
