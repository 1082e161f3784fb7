//! The table of `cargo bench --bench codec -- --table`, and whether it meets the targets.
// Each program uses a part.
#![allow(dead_code)]

use std::fmt::Write as _;

pub(crate) const HEAD: &str = "operation,contender,nanoseconds";

/// How far behind the fastest a target lets mintage be, where it need not be ahead.
const NEAR: f64 = 1.03;

pub(crate) type Read<T> = Result<T, String>;

pub(crate) struct Operation {
    pub(crate) name: String,
    /// Contender and nanoseconds.
    pub(crate) times: Vec<(String, f64)>,
}

/// What was asked of one row of the table.
pub(crate) struct Verdict {
    pub(crate) ours: &'static str,
    pub(crate) whom: &'static str,
    pub(crate) fastest: String,
    pub(crate) ratio: f64,
    /// Not reached where mintage is to be ahead.
    limit: f64,
}

impl Verdict {
    pub(crate) fn is_held(&self) -> bool {
        if self.limit == 1.0 { self.ratio < 1.0 } else { self.ratio <= self.limit }
    }
}

pub(crate) fn read(csv: &str) -> Read<Vec<Operation>> {
    let mut operations: Vec<Operation> = Vec::new();
    for line in csv.lines().filter(|line| line.starts_with("sign/") || line.starts_with("verify/"))
    {
        let wrong = || format!("no line of the table: {line}");
        let fields: Vec<&str> = line.split(',').collect();
        let [name, contender, nanos] = fields[..] else { return Err(wrong()) };
        let time = (contender.to_owned(), nanos.parse().map_err(|_| wrong())?);
        match operations.last_mut() {
            Some(last) if last.name == name => last.times.push(time),
            _ => operations.push(Operation { name: name.to_owned(), times: vec![time] }),
        }
    }
    if operations.is_empty() { Err("no table".into()) } else { Ok(operations) }
}

pub(crate) fn is_ours(contender: &str) -> bool {
    contender.starts_with("mintage")
}

pub(crate) fn is_bare(contender: &str) -> bool {
    matches!(contender, "ring" | "aws-lc")
}

pub(crate) fn shown(nanos: f64) -> String {
    match nanos {
        ..10_000.0 => format!("{nanos:.0} ns"),
        ..100_000.0 => format!("{:.1} µs", nanos / 1e3),
        _ => format!("{:.0} µs", nanos / 1e3),
    }
}

impl Operation {
    pub(crate) fn csv(&self) -> String {
        let name = &self.name;
        self.times.iter().map(|(who, nanos)| format!("{name},{who},{nanos:.0}\n")).collect()
    }

    pub(crate) fn time(&self, wanted: &str) -> Read<f64> {
        let found = self.times.iter().find(|(contender, _)| contender == wanted);
        found.map(|(_, nanos)| *nanos).ok_or(format!("{} lacks {wanted}", self.name))
    }

    fn fastest(&self, of: impl Fn(&str) -> bool) -> Read<&(String, f64)> {
        let peers = self.times.iter().filter(|(name, _)| !is_ours(name) && !is_bare(name));
        peers
            .filter(|(name, _)| of(name))
            .min_by(|one, two| one.1.total_cmp(&two.1))
            .ok_or(format!("{} lacks a peer", self.name))
    }

    /// On ring: ahead of every peer on ring, of every peer on HS256, and near the fastest on ES256. On
    /// AWS-LC: near the fastest, or ahead.
    pub(crate) fn verdicts(&self) -> Read<Vec<Verdict>> {
        let verdict = |ours, whom, limit, of: fn(&str) -> bool| {
            let (fastest, nanos) = self.fastest(of)?;
            let ratio = self.time(ours)? / nanos;
            Read::Ok(Verdict { ours, whom, fastest: fastest.clone(), ratio, limit })
        };
        let mut verdicts =
            vec![verdict("mintage", "peers on ring", 1.0, |name| name.ends_with("(ring)"))?];
        if self.name.ends_with("/HS256") {
            verdicts.push(verdict("mintage", "all peers", 1.0, |_| true)?);
        }
        if self.name.ends_with("/ES256") {
            verdicts.push(verdict("mintage", "all peers", NEAR, |_| true)?);
        }
        verdicts.push(verdict("mintage-aws-lc", "all peers", NEAR, |_| true)?);
        Ok(verdicts)
    }
}

/// Every target with its figure.
pub(crate) fn verdicts(operations: &[Operation]) -> Read<String> {
    let (mut out, mut held, mut all) = (String::new(), 0, 0);
    for operation in operations {
        for verdict in operation.verdicts()? {
            let Verdict { ours, whom, fastest, ratio, limit } = &verdict;
            let limit = if *limit == 1.0 { "ahead".to_owned() } else { format!("{limit} or less") };
            let held_or_not = if verdict.is_held() { "held" } else { "NOT HELD" };
            writeln!(
                out,
                "{}: {ours} takes {ratio:.3} of the fastest of {whom}, {fastest}; {limit}: {held_or_not}",
                operation.name
            )
            .map_err(|error| error.to_string())?;
            all += 1;
            held += u32::from(verdict.is_held());
        }
    }
    Ok(format!("{out}{held} of {all} targets held\n"))
}
