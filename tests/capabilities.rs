//! The table of capabilities is whole, and names tests that exist.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

const CAPABILITIES: usize = 74;

/// The names of all tests and laws below a directory: functions, as they stand in the source.
fn functions(dir: &Path, out: &mut HashSet<String>) -> std::io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            functions(&path, out)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            for line in fs::read_to_string(&path)?.lines() {
                let Some(rest) = line.trim_start().strip_prefix("fn ") else { continue };
                let end = rest.find(|c: char| !(c.is_alphanumeric() || c == '_'));
                out.extend(end.and_then(|end| rest.get(..end)).map(str::to_owned));
            }
        }
    }
    Ok(())
}

fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| #"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

/// What is wrong with a table, as lines for people.
fn problems(text: &str, known: &HashSet<String>) -> Vec<String> {
    let rows = rows(text);
    let mut problems = Vec::new();
    let numbers: Vec<String> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted: Vec<String> = (1..=CAPABILITIES).map(|n| n.to_string()).collect();
    if numbers != wanted {
        problems.push(format!("the rows are not 1 to {CAPABILITIES}, each once"));
    }
    for row in rows {
        let [number, name, status, test, _] = row[..] else {
            problems.push(format!("{}: not five cells", row[0]));
            continue;
        };
        let test = test.trim_matches('`');
        let tested = known.contains(test);
        match status {
            _ if name.is_empty() => problems.push(format!("{number}: no name")),
            "done" if !tested => problems.push(format!("{number}: no test {test:?}")),
            "partly" if !tested => {
                problems.push(format!("{number}: no test {test:?}"));
            }
            "open" if !test.is_empty() => problems.push(format!("{number}: open with a test")),
            "done" | "partly" | "open" => {}
            other => problems.push(format!("{number}: unknown status {other:?}")),
        }
    }
    problems
}

#[test]
fn the_table_of_capabilities_is_whole_and_its_tests_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut known = HashSet::new();
    for dir in ["src", "tests"] {
        functions(&root.join(dir), &mut known).unwrap();
    }
    assert!(known.len() > 300, "the walk found the tests");
    let text = fs::read_to_string(root.join("docs/capabilities.md")).unwrap();
    let problems = problems(&text, &known);
    assert!(problems.is_empty(), "{problems:#?}");
}

#[test]
fn a_wrong_table_is_seen() {
    let known: HashSet<String> = ["law".to_owned()].into();
    let row = |n: usize| format!("| {n} | name | done | `law` |  |\n");
    let good: String = (1..=CAPABILITIES).map(row).collect();
    assert!(problems(&good, &known).is_empty());
    for (from, to) in [
        ("| 7 | name | done | `law` |", "| 7 | name | done | `lost` |"),
        ("| 7 | name | done | `law` |", "| 7 | name | done |  |"),
        ("| 7 | name | done | `law` |", "| 7 | name | partly | `lost` |"),
        ("| 7 | name | done | `law` |", "| 7 | name | planned | `law` |"),
        ("| 7 | name | done | `law` |", "| 7 | name | open | `law` |"),
        ("| 7 | name | done |", "| 8 | name | done |"),
        ("| 7 | name |", "| 7 |  |"),
        ("| 7 | name | done | `law` |  |\n", ""),
        ("| 7 | name | done |", "| 7 | done |"),
    ] {
        assert!(!problems(&good.replacen(from, to, 1), &known).is_empty(), "{to}");
    }
}
