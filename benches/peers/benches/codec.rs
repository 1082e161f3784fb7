//! mintage beside its peers: every library signs the same claims, and verifies the same token of
//! mintage's with signature, issuer, audience, type, expiry and `nbf` by the system's clock. What a
//! library leaves to the program, the program does here. Before any time is taken, every peer has
//! signed what mintage accepts, and has refused a token with each of these wrong. Keys are held in the
//! form that the library's own documentation recommends; whatever a library builds for each call is in
//! its time. `ring` and `aws-lc` are the bare signature over the same bytes.
//!
//! ```text
//! cargo bench --bench codec                          each contender by itself, under Criterion
//! cargo bench --bench codec -- --table > codec.csv   taking turns: nanoseconds, and the targets
//! cargo run --release --bin chart -- codec.csv codec.svg
//! ```
#![allow(clippy::print_stdout, clippy::print_stderr)]

#[path = "peers/biscuit.rs"]
mod on_biscuit;
#[path = "peers/boringssl.rs"]
mod on_boringssl;
#[path = "peers/josekit.rs"]
mod on_josekit;
#[path = "peers/jsonwebtoken.rs"]
mod on_jsonwebtoken;
#[path = "peers/jwt_compact.rs"]
mod on_jwt_compact;
#[path = "peers/jwt_simple.rs"]
mod on_jwt_simple;
#[path = "peers/mintage.rs"]
mod on_mintage;
#[path = "../src/peer.rs"]
mod peer;
#[path = "../../support/mod.rs"]
mod support;
#[path = "../src/table.rs"]
mod table;

use std::time::Duration;

use criterion::Criterion;
use jwt_simple_14 as jwt_simple;
use mintage::codec::algorithm::Algorithm;
use on_boringssl::Child;
use peer::{Keys, Run, time};
use support::Made;
use support::cpu_time::{CpuTime, ONE};
use table::Operation;

const ROUNDS: usize = 181;
const TURN_NANOS: f64 = 3e6;

pub(crate) struct Contender {
    pub(crate) name: String,
    pub(crate) work: Work,
}

/// Where the work is done.
pub(crate) enum Work {
    Here(Run),
    There(Child),
}

impl Contender {
    pub(crate) fn here(name: &str, run: Run) -> Contender {
        Contender { name: name.to_owned(), work: Work::Here(run) }
    }

    fn time(&mut self, runs: u64) -> Duration {
        match &mut self.work {
            Work::Here(run) => time(run, runs),
            Work::There(child) => child.time(runs).expect("the process on BoringSSL"),
        }
    }

    fn nanos(&mut self, runs: u64) -> f64 {
        self.time(runs).as_secs_f64() * 1e9 / runs as f64
    }
}

/// Both operations of an algorithm, and who does them.
fn operations(algorithm: Algorithm) -> Made<[(String, Vec<Contender>); 2]> {
    let keys = Keys::new(algorithm)?;
    let (mut sign, mut verify) = on_mintage::contenders(&keys)?;
    let mut peers = on_jsonwebtoken::peers(&keys)?;
    peers.push(on_jwt_simple::peer("jwt-simple 0.14.0 (pure Rust)", &keys)?);
    peers.extend(on_jwt_compact::peers(&keys)?);
    peers.extend(on_josekit::peers(&keys)?);
    peers.extend(on_biscuit::peers(&keys)?);
    for mut peer in peers {
        peer.check(&keys)?;
        let name = peer.name;
        let (signs, verifies) = peer.runs(&keys);
        sign.push(Contender::here(name, signs));
        verify.push(Contender::here(name, verifies));
    }
    sign.push(on_boringssl::contender(algorithm, "sign")?);
    verify.push(on_boringssl::contender(algorithm, "verify")?);
    Ok([(format!("sign/{algorithm}"), sign), (format!("verify/{algorithm}"), verify)])
}

/// Each contender's nanoseconds over rounds in which all of them take a turn: the mean of the middle
/// half. A median would be of the turns with or those without what is done once in some dozen calls
/// (AWS-LC makes the blinding of an RSA key anew).
fn take_turns(name: String, mut contenders: Vec<Contender>) -> Operation {
    let mut runs = Vec::new();
    for contender in &mut contenders {
        let once = contender.nanos(3).max(1.0);
        runs.push((TURN_NANOS / once).clamp(1.0, 1e6) as u64);
    }
    let mut times = vec![Vec::new(); contenders.len()];
    for _ in 0..ROUNDS {
        for ((contender, runs), times) in contenders.iter_mut().zip(&runs).zip(&mut times) {
            contender.nanos(runs / 20 + 1);
            times.push(contender.nanos(*runs));
        }
    }
    let middle = |mut times: Vec<f64>| {
        times.sort_by(f64::total_cmp);
        let half = &times[times.len() / 4..times.len() - times.len() / 4];
        half.iter().sum::<f64>() / half.len() as f64
    };
    let names = contenders.into_iter().map(|contender| contender.name);
    Operation { name, times: names.zip(times.into_iter().map(middle)).collect() }
}

/// The table goes to the standard output, the targets to the standard error.
fn print_table() -> Made<()> {
    let mut done = Vec::new();
    println!("{}", table::HEAD);
    for algorithm in Algorithm::ALL {
        for (name, contenders) in operations(algorithm)? {
            let operation = take_turns(name, contenders);
            print!("{}", operation.csv());
            done.push(operation);
        }
    }
    eprint!("{}", table::verdicts(&done)?);
    Ok(())
}

fn main() -> Made<()> {
    on_jsonwebtoken::install();
    if std::env::args().any(|arg| arg == "--table") {
        return print_table();
    }
    // Some 160 benchmarks: a minute each, as by default, would take hours.
    let mut criterion = Criterion::default()
        .with_measurement(CpuTime)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .configure_from_args();
    for algorithm in Algorithm::ALL {
        for (name, contenders) in operations(algorithm)? {
            let mut group = criterion.benchmark_group(name);
            group.throughput(ONE);
            for mut contender in contenders {
                let name = contender.name.clone();
                group.bench_function(name, |b| b.iter_custom(|runs| contender.time(runs)));
            }
            group.finish();
        }
    }
    criterion.final_summary();
    Ok(())
}
