//! What a token costs over the bare primitive: `ring` and `aws-lc` sign or verify the same bytes,
//! `mintage` does the whole token (claims written; or header, signature, claims, issuer, audience,
//! type and times checked). The ratio of the two is the figure that counts.
//!
//! ```text
//! cargo bench --bench codec                          each contender by itself
//! cargo bench --bench codec -- --ratios              contenders taking turns, and the ratios
//! cargo bench --bench codec --features aws-lc-rs     with the second backend
//! ```

#![allow(clippy::print_stdout, clippy::print_stderr)]

mod support;

use std::hint::black_box;
use std::process::ExitCode;

use criterion::Criterion;
use mintage::codec::algorithm::Algorithm;
use mintage::codec::handle::{HandleBuf, HandleKeys, HandleKind};
#[cfg(feature = "aws-lc-rs")]
use mintage::codec::keys::Backend;
use mintage::ids::OrgId;
use mintage::locator::Locator;
use mintage::root_key::RootKey;
use mintage::secret::SecretBytes;
use support::cpu_time::{CpuTime, ONE};
use support::{Made, Tokens, claims};

/// How many turns each contender gets for a ratio, and how long one takes.
const ROUNDS: usize = 61;
const TURN_NANOS: f64 = 3e6;
/// What the whole verification of an HS256 token may cost over its primitive if it costs more than its
/// share.
const HS256_VERIFY_NANOS: f64 = 200.0;

type Contender = (&'static str, Box<dyn FnMut() -> bool>);
/// The name of an operation's group, and who does it.
type Operation = (String, Vec<Contender>);

/// What an operation may cost, in the costs of its primitive.
fn limit(group: &str) -> f64 {
    match group {
        "sign/HS256" => 1.15,
        "verify/HS256" => 1.45,
        _ => 1.05,
    }
}

/// Every operation, which its contenders do on keys of the same material.
fn operations() -> Made<Vec<Operation>> {
    let mut operations = Vec::new();
    for algorithm in Algorithm::ALL {
        let private = support::private_key(algorithm)?;
        let bare = || support::bare_ring::Bare::new(algorithm, &private);
        let tokens = || Tokens::new(support::signing_key(algorithm, &private)?);
        let mut out = [0; 256];

        let (ring, ours) = (bare()?, tokens()?);
        let mut sign: Operation = (format!("sign/{algorithm}"), Vec::new());
        sign.1.push(("ring", { Box::new(move || ring.sign(black_box(ours.input()), &mut out)) }));
        let mut ours = tokens()?;
        sign.1.push(("mintage", Box::new(move || ours.sign(black_box(&claims())))));

        let (ring, ours) = (bare()?, tokens()?);
        let mut verify: Operation = (format!("verify/{algorithm}"), Vec::new());
        verify.1.push(("ring", {
            Box::new(move || ring.verify(black_box(ours.input()), black_box(&ours.raw)))
        }));
        let mut ours = tokens()?;
        let token = ours.token.clone();
        verify.1.push(("mintage", Box::new(move || ours.verify(black_box(token.as_bytes())))));

        #[cfg(feature = "aws-lc-rs")]
        on_aws_lc(algorithm, &private, &mut sign, &mut verify)?;
        operations.extend([sign, verify]);

        if algorithm == Algorithm::Hs256 {
            let (ring, ours) = (bare()?, tokens()?);
            let mut check: Operation = ("verify-sig/HS256".to_owned(), Vec::new());
            check.1.push(("ring", {
                Box::new(move || ring.verify(black_box(ours.input()), black_box(&ours.raw)))
            }));
            let ours = tokens()?;
            check.1.push(("mintage", {
                Box::new(move || {
                    let key = ours.key.verifying_key();
                    key.verify(black_box(ours.input()), black_box(&ours.raw))
                })
            }));
            operations.push(check);

            let mut ours = tokens()?;
            let once: Box<dyn FnMut() -> bool> =
                Box::new(move || ours.sign_once(black_box(&claims())));
            operations.push(("sign-once/HS256".to_owned(), vec![("mintage", once)]));
        }
    }
    Ok(operations)
}

#[cfg(feature = "aws-lc-rs")]
fn on_aws_lc(
    algorithm: Algorithm,
    private: &[u8],
    sign: &mut Operation,
    verify: &mut Operation,
) -> Made<()> {
    let bare = || support::bare_aws_lc::Bare::new(algorithm, private);
    let tokens =
        || Tokens::new(support::signing_key(algorithm, private)?.with_backend(Backend::AwsLcRs)?);
    let mut out = [0; 256];
    let (aws_lc, ours) = (bare()?, tokens()?);
    sign.1.push(("aws-lc", Box::new(move || aws_lc.sign(black_box(ours.input()), &mut out))));
    let mut ours = tokens()?;
    sign.1.push(("mintage-aws-lc", Box::new(move || ours.sign(black_box(&claims())))));
    let (aws_lc, ours) = (bare()?, tokens()?);
    verify.1.push(("aws-lc", {
        Box::new(move || aws_lc.verify(black_box(ours.input()), black_box(&ours.raw)))
    }));
    let mut ours = tokens()?;
    let token = ours.token.clone();
    verify.1.push(("mintage-aws-lc", Box::new(move || ours.verify(black_box(token.as_bytes())))));
    Ok(())
}

fn jwts(criterion: &mut Criterion<CpuTime>) {
    for (name, contenders) in operations().expect("keys and tokens for the benchmark") {
        let mut group = criterion.benchmark_group(name);
        group.throughput(ONE);
        for (contender, mut run) in contenders {
            group.bench_function(contender, |b| b.iter(|| assert!(run())));
        }
        group.finish();
    }
}

fn handles(criterion: &mut Criterion<CpuTime>) {
    handle(criterion).expect("keys for the benchmark");
}

fn handle(criterion: &mut Criterion<CpuTime>) -> Made<()> {
    let keys = HandleKeys::new(&RootKey::from_bytes(1, [1; 32]), OrgId::new("00D1")?)?;
    let locator = Locator { class: 6, bucket: 7, id: 8 };
    let secret = SecretBytes::new([9; 32]);
    let mut out = HandleBuf::new();
    let digest = keys.mint(HandleKind::Access, locator, &secret, &mut out);
    let text = out.as_str().to_owned();

    let mut group = criterion.benchmark_group("handle");
    group.throughput(ONE);
    group.bench_function("mint", |b| {
        b.iter(|| {
            let minted = keys.mint(HandleKind::Access, black_box(locator), &secret, &mut out);
            assert_eq!(minted, digest);
        });
    });
    group.bench_function("parse", |b| {
        b.iter(|| {
            let parsed = keys.parse(HandleKind::Access, black_box(&text));
            assert!(parsed.is_ok_and(|handle| handle.digest == digest));
        });
    });
    // The most expensive refusal: all is right but the MAC.
    let foreign = HandleKeys::new(&RootKey::from_bytes(1, [2; 32]), OrgId::new("00D1")?)?;
    foreign.mint(HandleKind::Access, locator, &secret, &mut out);
    group.bench_function("reject", |b| {
        b.iter(|| assert!(keys.parse(HandleKind::Access, black_box(out.as_str())).is_err()));
    });
    group.finish();
    Ok(())
}

/// The contenders of one operation on equal terms: they take turns, so that a busy moment hits all of
/// them. Gives the median of a contender's nanoseconds, and of its ratio to `base` in the same round.
fn take_turns(contenders: &mut [Contender], base: usize) -> Vec<(f64, f64)> {
    let nanos = |(name, run): &mut Contender, runs: u32| {
        let begun = CpuTime::now();
        for _ in 0..runs {
            assert!(run(), "{name}");
        }
        (CpuTime::now() - begun).as_secs_f64() * 1e9 / f64::from(runs)
    };
    let mut runs = Vec::new();
    for contender in contenders.iter_mut() {
        let once = nanos(contender, 20).max(1.0);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        runs.push((TURN_NANOS / once).clamp(1.0, 1e6) as u32);
    }
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let round = contenders.iter_mut().zip(&runs).map(|(contender, runs)| {
            nanos(contender, runs / 20 + 1);
            nanos(contender, *runs)
        });
        rounds.push(round.collect::<Vec<_>>());
    }
    let median = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let of = |at: usize| {
        let ratios = rounds.iter().map(|round| round[at] / round[base]);
        (median(rounds.iter().map(|round| round[at]).collect()), median(ratios.collect()))
    };
    (0..contenders.len()).map(of).collect()
}

/// Prints the ratios, and says whether all of them are within their limits.
fn ratios() -> Made<bool> {
    let mut all_held = true;
    println!("| operation | contender | ns | to its primitive | limit | |");
    println!("|---|---|---:|---:|---:|---|");
    for (group, mut contenders) in operations()? {
        let base = 0;
        let measured = take_turns(&mut contenders, base);
        for (at, (name, _)) in contenders.iter().enumerate() {
            let primitive = match *name {
                "mintage" => "ring",
                "mintage-aws-lc" => "aws-lc",
                _ => continue,
            };
            let Some(base) = contenders.iter().position(|(name, _)| *name == primitive) else {
                println!("| {group} | {name} | {:.0} | | | |", measured[at].0);
                continue;
            };
            let (nanos, ratio) = (measured[at].0, measured[at].1 / measured[base].1);
            let limit = limit(&group);
            let near = group == "verify/HS256" && nanos - measured[base].0 <= HS256_VERIFY_NANOS;
            let held = ratio <= limit || near;
            all_held &= held;
            let verdict = if held { "held" } else { "NOT HELD" };
            println!("| {group} | {name} | {nanos:.0} | {ratio:.3} | {limit} | {verdict} |");
        }
    }
    Ok(all_held)
}

fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--ratios") {
        return match ratios() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        };
    }
    let mut criterion = Criterion::default().with_measurement(CpuTime).configure_from_args();
    jwts(&mut criterion);
    handles(&mut criterion);
    criterion.final_summary();
    ExitCode::SUCCESS
}
