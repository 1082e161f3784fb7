//! The process in which `jwt-simple` works on BoringSSL (`src/boringssl.rs`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use mintage::codec::algorithm::Algorithm;

use crate::support::Made;
use crate::{Contender, Work};

/// Ends when its input does.
pub(crate) struct Child {
    operation: &'static str,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Child {
    fn answer(&mut self) -> Made<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim_end().to_owned())
    }

    pub(crate) fn time(&mut self, runs: u64) -> Made<Duration> {
        writeln!(self.requests, "{} {runs}", self.operation)?;
        Ok(Duration::from_nanos(self.answer()?.parse()?))
    }
}

pub(crate) fn contender(algorithm: Algorithm, operation: &'static str) -> Made<Contender> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_boringssl"))
        .arg(algorithm.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let requests = process.stdin.take().ok_or("no input")?;
    let answers = BufReader::new(process.stdout.take().ok_or("no output")?);
    let mut child = Child { operation, requests, answers };
    let name = child.answer()?;
    if name.is_empty() {
        return Err("the process on BoringSSL has failed".into());
    }
    Ok(Contender { name, work: Work::There(child) })
}
