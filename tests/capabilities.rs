//! The tables of capabilities are whole, and name tests that are run. That their public items exist
//! is checked by `cargo doc`, which builds the tables into the documentation.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;

const CAPABILITIES: usize = 74;
/// For how many rows one test may stand.
const ROWS_OF_A_TEST_MAX: usize = 3;
const SPECIFICATIONS: [&str; 35] = [
    "RFC 6749",
    "RFC 6750",
    "RFC 7009",
    "RFC 7515",
    "RFC 7517",
    "RFC 7518",
    "RFC 7519",
    "RFC 7521, 7522, 7523",
    "RFC 7591",
    "RFC 7592",
    "RFC 7636",
    "RFC 7662",
    "RFC 8414",
    "RFC 8628",
    "RFC 8693",
    "RFC 8705",
    "RFC 8707",
    "RFC 9068",
    "RFC 9101",
    "RFC 9126",
    "RFC 9207",
    "RFC 9396",
    "RFC 9449",
    "RFC 9700",
    "RFC 9701",
    "OpenID Connect Core",
    "OpenID Connect Discovery",
    "OpenID Connect logout",
    "RFC 8725",
    "RFC 8252",
    "RFC 9728",
    "RFC 9470",
    "OAuth 2.1",
    "First-party apps",
    "Token status list",
];

/// The name of the function that a line declares.
fn declared(line: &str) -> Option<&str> {
    let rest = line.trim_start().strip_prefix("fn ")?;
    rest.get(..rest.find(|c: char| !(c.is_alphanumeric() || c == '_'))?)
}

/// The tests of a source that are run: functions under `#[test]` alone, and those that `laws!` makes
/// tests of.
fn tests_of(text: &str, out: &mut HashSet<String>) {
    let (mut is_test, mut is_ignored) = (false, false);
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]");
        is_ignored |= line.starts_with("#[ignore");
        if !line.starts_with("#[") && !line.starts_with("//") {
            if is_test && !is_ignored {
                out.extend(declared(line).map(str::to_owned));
            }
            (is_test, is_ignored) = (false, false);
        }
    }
    for laws in text.split("\nlaws!").skip(1) {
        let laws = laws.split([']', '}']).next().unwrap_or("");
        let names = laws.split(|c: char| !(c.is_alphanumeric() || c == '_'));
        out.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
    }
}

fn walk(dir: &Path, out: &mut HashSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            walk(&path, out)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            tests_of(&fs::read_to_string(&path)?, out);
        }
    }
    Ok(())
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !is_head(line))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn is_head(line: &str) -> bool {
    line.starts_with("| n |") || line.starts_with("| spec |")
}

/// A link that rustdoc resolves where the table stands: a path in backquotes in brackets.
fn is_link(cell: &str) -> bool {
    let path = cell.strip_prefix("[`").and_then(|cell| cell.strip_suffix("`]"));
    path.is_some_and(|path| {
        let mut parts = path.split("::");
        parts.clone().count() > 1
            && parts.all(|part| {
                !part.is_empty() && part.chars().all(|c| c.is_alphanumeric() || c == '_')
            })
    })
}

/// What is wrong with a row, for people.
fn wrong_row(row: &[&str], known: &HashSet<String>) -> Option<&'static str> {
    let [_, name, item, test, state] = row else { return Some("not five cells") };
    let test = test.trim_matches('`');
    let (state, reason) = state.split_once(": ").unwrap_or((state, ""));
    if name.is_empty() {
        return Some("no name");
    }
    if !item.is_empty() && !is_link(item) {
        return Some("the public item is no link");
    }
    if !test.is_empty() && !known.contains(test) {
        return Some("no such test, or it is not run");
    }
    match state {
        "done" if item.is_empty() => Some("done without a public item"),
        "done" if test.is_empty() => Some("done without a test"),
        "missing" if reason.is_empty() => Some("missing without a reason"),
        "done" | "server" | "later" | "missing" => None,
        _ => Some("unknown state"),
    }
}

/// What is wrong with the tables, as lines for people.
fn problems(text: &str, known: &HashSet<String>) -> Vec<String> {
    let rows = rows(text);
    let mut problems = Vec::new();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted = (1..=CAPABILITIES).map(|n| n.to_string());
    let wanted: Vec<String> = wanted.chain(SPECIFICATIONS.map(str::to_owned)).collect();
    if numbers != wanted {
        problems.push("the rows are not those wanted, each once and in order".to_owned());
    }
    let mut stands_for: HashMap<&str, usize> = HashMap::new();
    for row in &rows {
        problems.extend(wrong_row(row, known).map(|problem| format!("{}: {problem}", row[0])));
        let test = row.get(3).copied().unwrap_or("");
        let times = stands_for.entry(test).or_default();
        *times += 1;
        if !test.is_empty() && *times > ROWS_OF_A_TEST_MAX {
            problems.push(format!("{}: {test} stands for more than three rows", row[0]));
        }
    }
    problems
}

#[test]
fn the_tables_of_capabilities_are_whole_and_their_tests_are_run() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = HashSet::new();
    for dir in ["src", "tests"] {
        walk(&root.join(dir), &mut known).unwrap();
    }
    assert!(known.len() > 300, "the walk found the tests");
    let text = fs::read_to_string(root.join("docs/capabilities.md")).unwrap();
    let problems = problems(&text, &known);
    assert!(problems.is_empty(), "{problems:#?}");
    let library = fs::read_to_string(root.join("src/lib.rs")).unwrap();
    assert!(library.contains("#[doc = include_str!(\"../docs/capabilities.md\")]"));
}

#[test]
fn a_wrong_table_is_seen() {
    let known = (0..CAPABILITIES + SPECIFICATIONS.len()).map(law).collect();
    let row = |(at, n): (usize, String)| {
        format!("| {n} | name | [`a::B`] | `{}` | done |\n", law(at / ROWS_OF_A_TEST_MAX))
    };
    let numbers = (1..=CAPABILITIES).map(|n| n.to_string());
    let ids = numbers.chain(SPECIFICATIONS.map(str::to_owned));
    let good: String = ids.enumerate().map(row).collect();
    assert_eq!(problems(&good, &known), Vec::<String>::new());
    for (from, to) in [
        ("| 7 | name | [`a::B`] | `law_2` |", "| 7 | name | [`a::B`] | `lost` |"),
        ("| 7 | name | [`a::B`] | `law_2` |", "| 7 | name | [`a::B`] |  |"),
        ("| 7 | name | [`a::B`] | `law_2` |", "| 7 | name | [`a::B`] | `law_0` |"),
        ("| 7 | name | [`a::B`] |", "| 7 | name |  |"),
        ("| 7 | name | [`a::B`] |", "| 7 | name | `a::B` |"),
        ("| 7 | name | [`a::B`] |", "| 7 | name | [`B`] |"),
        ("| 7 | name | [`a::B`] |", "| 7 |  | [`a::B`] |"),
        ("| 7 | name | [`a::B`] |", "| 7 | [`a::B`] |"),
        ("| 7 | name | [`a::B`] | `law_2` | done |", "| 7 | name | [`a::B`] | `law_2` | partly |"),
        ("| 7 | name | [`a::B`] | `law_2` | done |", "| 7 | name |  |  | missing |"),
        ("| 7 | name | [`a::B`] | `law_2` | done |\n", ""),
        ("| 7 |", "| 8 |"),
        ("| RFC 7009 |", "| RFC 7008 |"),
    ] {
        let bad = good.replacen(from, to, 1);
        assert_ne!(bad, good, "{from}");
        assert!(!problems(&bad, &known).is_empty(), "{to}");
    }
}

fn law(number: usize) -> String {
    format!("law_{number}")
}

#[test]
fn a_test_that_is_not_run_is_no_test() {
    let mut found = HashSet::new();
    let text = "#[test]\n#[ignore = \"slow\"]\nfn slow() {\n}\nfn helper() {}\n#[test]\n// why\nfn runs() {}\n\
                \nlaws![\n    one,\n    two,\n];\nfn three() {}\n";
    tests_of(text, &mut found);
    let mut found: Vec<String> = found.into_iter().collect();
    found.sort();
    assert_eq!(found, ["one", "runs", "two"]);
}
