//! Draws what `cargo bench --bench codec -- --table` printed: a Markdown table and the verdict of each
//! target on the standard output, and an SVG chart in the file that is named second.
//!
//! ```text
//! cargo run --release --bin chart -- codec.csv codec.svg
//! ```
#![allow(clippy::print_stdout)]

mod table;

use std::error::Error;
use std::fmt::Write as _;

use table::{Operation, is_bare, is_ours, shown};

const BAR: usize = 15;
const NAMES: usize = 250;
const BARS: usize = 330;
const COLUMN: usize = NAMES + BARS + 80;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let (Some(csv), Some(chart)) = (args.next(), args.next()) else {
        return Err("usage: chart TABLE.csv CHART.svg".into());
    };
    let operations = table::read(&std::fs::read_to_string(csv)?)?;
    println!("{}", markdown(&operations)?);
    print!("{}", table::verdicts(&operations)?);
    std::fs::write(chart, svg(&operations)?)?;
    Ok(())
}

/// One line for an operation: ours on both backends, and the fastest peers with our distance. What
/// misses a target is bold.
fn markdown(operations: &[Operation]) -> Result<String, Box<dyn Error>> {
    let mut out = String::from(
        "| operation | mintage on ring | fastest peer on ring | | mintage on AWS-LC | fastest peer | |\n\
         |---|---:|---|---:|---:|---|---:|\n",
    );
    for operation in operations {
        let verdicts = operation.verdicts()?;
        let of = |ours: &str| {
            let own = verdicts.iter().filter(|verdict| verdict.ours == ours);
            let first = own.clone().next().ok_or("no verdict")?;
            let missed = own.clone().find(|verdict| !verdict.is_held());
            let ratio = match missed {
                None => format!("{:.3}", first.ratio),
                Some(missed) if missed.fastest == first.fastest => {
                    format!("**{:.3}**", missed.ratio)
                }
                Some(missed) => format!("**{:.3} of {}**", missed.ratio, missed.fastest),
            };
            let nanos = operation.time(ours)?;
            let fastest = format!("{}, {}", first.fastest, shown(nanos / first.ratio));
            Ok::<_, Box<dyn Error>>(format!("{} | {fastest} | {ratio}", shown(nanos)))
        };
        writeln!(out, "| {} | {} | {} |", operation.name, of("mintage")?, of("mintage-aws-lc")?)?;
    }
    Ok(out)
}

/// Signing to the left, verifying to the right; a group of bars for each operation.
fn svg(operations: &[Operation]) -> Result<String, Box<dyn Error>> {
    let (sign, verify): (Vec<_>, Vec<_>) =
        operations.iter().partition(|operation| operation.name.starts_with("sign/"));
    let bars = |operation: &Operation| (operation.times.len() + 2) * BAR;
    let rows: Vec<usize> = (0..sign.len().max(verify.len()))
        .map(|at| {
            let of = |side: &[&Operation]| side.get(at).map_or(0, |operation| bars(operation));
            of(&sign).max(of(&verify))
        })
        .collect();
    let (width, height) = (2 * COLUMN, rows.iter().sum::<usize>() + BAR);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (side, left) in [(&sign, 0), (&verify, COLUMN)] {
        let mut top = BAR;
        for (operation, row) in side.iter().zip(&rows) {
            group(&mut out, operation, left, top)?;
            top += row;
        }
    }
    out.push_str("</svg>\n");
    Ok(out)
}

/// Bars as long as their times, but cut at four times the median: some take tens of times longer.
fn group(out: &mut String, operation: &Operation, left: usize, top: usize) -> std::fmt::Result {
    let (at, name) = (left + 8, &operation.name);
    writeln!(out, "<text x=\"{at}\" y=\"{}\" font-weight=\"bold\">{name}</text>", top + 11)?;
    let mut times: Vec<_> = operation.times.iter().collect();
    times.sort_by(|one, two| one.1.total_cmp(&two.1));
    let median = times.get(times.len() / 2).map_or(1.0, |(_, nanos)| *nanos);
    let most = times.last().map_or(1.0, |(_, nanos)| *nanos).min(4.0 * median);
    let bars = left + NAMES;
    for (row, (contender, nanos)) in times.into_iter().enumerate() {
        let top = top + (row + 1) * BAR;
        let colour = match (is_ours(contender), is_bare(contender)) {
            (true, _) => "#1f6feb",
            (_, true) => "#b0b7c0",
            _ => "#e0823d",
        };
        let width = (nanos / most).min(1.0) * BARS as f64;
        let cut = if *nanos > most { " (cut)" } else { "" };
        writeln!(
            out,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{contender}</text>\
             <rect x=\"{bars}\" y=\"{}\" width=\"{width:.1}\" height=\"{}\" fill=\"{colour}\"/>\
             <text x=\"{:.1}\" y=\"{}\">{}{cut}</text>",
            bars - 6,
            top + 11,
            top + 2,
            BAR - 4,
            bars as f64 + width + 5.0,
            top + 11,
            shown(*nanos)
        )?;
    }
    Ok(())
}
