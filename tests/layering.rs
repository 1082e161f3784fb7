//! The layers point down: server > authority > {store, codec} > vocabulary, and store and codec
//! never meet. What the documents say about the shape of the source is checked here.

use std::fs;
use std::path::{Path, PathBuf};

/// The longest file before its tests, in lines. CONTRIBUTING.md aims lower.
const FILE_LINES_MAX: usize = 700;

/// What a layer may not name.
struct Layer {
    name: &'static str,
    foreign: &'static [&'static str],
}

const LAYERS: [Layer; 4] = [
    Layer { name: "vocabulary", foreign: &["authority", "codec", "server", "store"] },
    Layer { name: "codec", foreign: &["authority", "server", "store"] },
    Layer { name: "store", foreign: &["authority", "codec", "server"] },
    Layer { name: "authority", foreign: &["server"] },
];

fn sources(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("the source is there") {
        let path = entry.expect("an entry reads").path();
        if path.is_dir() {
            sources(&path, out);
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            out.push(path);
        }
    }
}

fn every_source() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    assert!(paths.len() > 40, "the walk found the source");
    let read = |path: &PathBuf| {
        let name = path.strip_prefix(&root).expect("below src").to_string_lossy().into_owned();
        (name, fs::read_to_string(path).expect("a source file reads"))
    };
    paths.iter().map(read).collect()
}

fn layer_of(file: &str) -> Option<&'static Layer> {
    let folder = match file.split_once('/') {
        // Locks and threads, and their simulation.
        Some(("sync" | "sim", _)) => "vocabulary",
        Some((folder, _)) => folder,
        // lib.rs names its modules.
        None if file == "lib.rs" => return None,
        None => "vocabulary",
    };
    Some(LAYERS.iter().find(|layer| layer.name == folder).expect("every folder of src is a layer"))
}

/// The code of a file: no line comments, no doc comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or("")).filter(|l| !l.trim().is_empty())
}

/// The first segments of every path through the crate root: `crate::a::b`, `crate::{a, b::c}`.
fn roots_named(text: &str) -> Vec<String> {
    let flat = code(text).collect::<Vec<_>>().join(" ");
    let is_ident = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    for (at, _) in flat.match_indices("crate::") {
        if flat[..at].ends_with(is_ident) {
            continue;
        }
        let rest = &flat[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            None => found.push(rest.chars().take_while(|c| is_ident(*c)).collect()),
            Some(list) => {
                let mut depth = 1;
                let mut item = String::new();
                for c in list.chars() {
                    match c {
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        _ => {}
                    }
                    if depth == 0 || (depth == 1 && c == ',') {
                        found.push(item.trim().chars().take_while(|c| is_ident(*c)).collect());
                        item.clear();
                    } else {
                        item.push(c);
                    }
                    if depth == 0 {
                        break;
                    }
                }
            }
        }
    }
    found.retain(|name: &String| !name.is_empty());
    found
}

/// Every arrow that points up or sideways, as a line for people.
fn wrong_arrows(file: &str, text: &str) -> Vec<String> {
    let Some(layer) = layer_of(file) else { return Vec::new() };
    let named = roots_named(text);
    let wrong = named.iter().filter(|name| layer.foreign.contains(&name.as_str()));
    wrong.map(|name| format!("{file}: the {} names the {name}", layer.name)).collect()
}

#[test]
fn arrows_point_down() {
    let wrong: Vec<String> =
        every_source().iter().flat_map(|(file, text)| wrong_arrows(file, text)).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn a_wrong_arrow_is_seen() {
    for (file, text) in [
        ("store/core.rs", "use crate::codec::handle::Handle;"),
        ("store/core.rs", "use crate::{ids::ClientId, authority::Error};"),
        ("codec/jws/mod.rs", "fn f() -> crate::store::Seq { todo() }"),
        ("scope.rs", "pub use crate::{\n    store::{Seq, Lsn},\n};"),
        ("authority/mod.rs", "use crate::server;"),
    ] {
        assert_eq!(wrong_arrows(file, text).len(), 1, "{file}: {text}");
    }
    for (file, text) in [
        ("store/core.rs", "//! As crate::codec has it.\nuse crate::ids::{ClientId, Subject};"),
        ("authority/mod.rs", "use crate::{codec::handle::Handle, store::Store};"),
        ("lib.rs", "pub use crate::store::Store;"),
    ] {
        assert!(wrong_arrows(file, text).is_empty(), "{file}: {text}");
    }
}

#[test]
fn sled_has_one_door() {
    for (file, text) in every_source() {
        let names = code(&text).any(|line| line.contains("sled::"));
        assert!(!names || file == "store/sled_checkpoint.rs", "{file} names sled");
    }
}

#[test]
fn files_stay_short_and_safe() {
    for (file, text) in every_source() {
        let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]")).count();
        assert!(lines <= FILE_LINES_MAX, "{file} has {lines} lines before its tests");
        assert!(text.starts_with("//!"), "{file} does not say why it exists");
        let unsafe_at = code(&text).find(|line| {
            line.split(|c: char| !(c.is_alphanumeric() || c == '_')).any(|word| word == "unsafe")
        });
        assert_eq!(unsafe_at, None, "{file}");
    }
}
