//! Latency against throughput, drawn from `target/load.json`.

use std::fmt::Write as _;
use std::io;

use serde_json::Value;

use super::report::target;

const WIDTH: f64 = 420.0;
const HEIGHT: f64 = 300.0;
const MARGIN: f64 = 60.0;
const ENGINES: [(&str, &str); 3] =
    [("mintage", "#c2410c"), ("limit", "#1d4ed8"), ("device", "#6b7280")];
const WORKLOADS: [&str; 4] = ["issue", "redeem", "issue_many", "revoke"];

/// A point: operations a second, median and p99 in microseconds, waiters.
struct Point {
    rate: f64,
    p50: f64,
    p99: f64,
    waiters: u64,
}

/// Reads `target/load.json` and writes `target/load.svg`: a panel a workload, a line an engine from
/// 1 to 4,096 waiters, its median with a bar up to p99. Both axes are logarithmic.
pub(crate) fn draw() -> io::Result<()> {
    let rows: Vec<Value> = serde_json::from_slice(&std::fs::read(target().join("load.json"))?)?;
    let width = WIDTH * 2.0 + MARGIN * 3.0;
    let height = HEIGHT * 2.0 + MARGIN * 3.0;
    let mut svg = format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="#fff"/>"##
    );
    for (n, workload) in WORKLOADS.iter().enumerate() {
        let x = MARGIN + (n % 2) as f64 * (WIDTH + MARGIN);
        let y = MARGIN + (n / 2) as f64 * (HEIGHT + MARGIN);
        let _ = write!(svg, r#"<g transform="translate({x} {y})">"#);
        panel(&mut svg, workload, &rows);
        svg.push_str("</g>");
    }
    svg.push_str("</svg>\n");
    std::fs::write(target().join("load.svg"), svg)
}

fn points(rows: &[Value], workload: &str, engine: &str) -> Vec<Point> {
    let of = |row: &&Value| row["workload"] == workload && row["engine"] == engine;
    let number = |row: &Value, name: &str| row[name].as_f64().unwrap_or(0.0).max(1.0);
    let point = |row: &Value| Point {
        rate: number(row, "ops_per_s"),
        p50: number(row, "p50_us"),
        p99: number(row, "p99_us"),
        waiters: row["waiters"].as_u64().unwrap_or(0),
    };
    rows.iter().filter(of).map(point).collect()
}

fn panel(svg: &mut String, workload: &str, rows: &[Value]) {
    let lines: Vec<_> = ENGINES
        .iter()
        .map(|(engine, colour)| (*engine, *colour, points(rows, workload, engine)))
        .collect();
    let all = || lines.iter().flat_map(|(_, _, points)| points);
    let (rates, times) =
        (Axis::of(all().map(|p| p.rate)), Axis::of(all().flat_map(|p| [p.p50, p.p99])));
    let _ = write!(
        svg,
        r##"<text x="0" y="-10" font-size="14">{workload}</text><rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#9ca3af"/><text x="{}" y="{}" text-anchor="middle">operations a second</text><text transform="translate(-42 {}) rotate(-90)" text-anchor="middle">latency, us (median, bar to p99)</text>"##,
        WIDTH / 2.0,
        HEIGHT + 32.0,
        HEIGHT / 2.0
    );
    for (value, label) in rates.ticks() {
        let x = rates.at(value) * WIDTH;
        let _ = write!(
            svg,
            r##"<path d="M{x:.1} 0V{HEIGHT}" stroke="#e5e7eb"/><text x="{x:.1}" y="{}" text-anchor="middle">{label}</text>"##,
            HEIGHT + 16.0
        );
    }
    for (value, label) in times.ticks() {
        let y = HEIGHT - times.at(value) * HEIGHT;
        let _ = write!(
            svg,
            r##"<path d="M0 {y:.1}H{WIDTH}" stroke="#e5e7eb"/><text x="-6" y="{:.1}" text-anchor="end">{label}</text>"##,
            y + 4.0
        );
    }
    for (n, (engine, colour, points)) in lines.iter().enumerate() {
        let mut line = String::new();
        for point in points {
            let x = rates.at(point.rate) * WIDTH;
            let y = |time| HEIGHT - times.at(time) * HEIGHT;
            let (median, high) = (y(point.p50), y(point.p99));
            let _ = write!(line, "{}{x:.1} {median:.1}", if line.is_empty() { "M" } else { "L" });
            let _ = write!(
                svg,
                r#"<path d="M{x:.1} {median:.1}V{high:.1}" stroke="{colour}" opacity=".5"/><circle cx="{x:.1}" cy="{median:.1}" r="3" fill="{colour}"><title>{engine}, {} waiters: {:.0}/s, {:.0} us, p99 {:.0} us</title></circle>"#,
                point.waiters, point.rate, point.p50, point.p99
            );
        }
        let _ = write!(
            svg,
            r#"<path d="{line}" fill="none" stroke="{colour}"/><text x="8" y="{}" fill="{colour}">{engine}</text>"#,
            16 + 14 * n
        );
    }
}

/// A logarithmic axis over whole powers of ten.
struct Axis {
    low: i32,
    high: i32,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>) -> Axis {
        let logs: Vec<f64> = values.map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let high = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max).ceil();
        if low.is_finite() && high.is_finite() {
            Axis { low: low as i32, high: (high as i32).max(low as i32 + 1) }
        } else {
            Axis { low: 0, high: 1 }
        }
    }

    /// Where a value lies, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (value.log10() - f64::from(self.low)) / f64::from(self.high - self.low)
    }

    fn ticks(&self) -> impl Iterator<Item = (f64, String)> {
        (self.low..=self.high).map(|power| {
            let label = match power {
                6.. => format!("{} M", 10u64.pow((power - 6) as u32)),
                3..=5 => format!("{} k", 10u64.pow((power - 3) as u32)),
                _ => format!("{}", 10f64.powi(power)),
            };
            (10f64.powi(power), label)
        })
    }
}
