//! mintage, and the bare signatures that it is made of.

use std::hint::black_box;
use std::time::{SystemTime, UNIX_EPOCH};

use mintage::codec::algorithm::Algorithm;
use mintage::codec::keys::Backend;
use mintage::time::Timestamp;

use crate::Contender;
use crate::peer::{Keys, Run};
use crate::support::bare_aws_lc::Bare as OnAwsLc;
use crate::support::bare_ring::Bare as OnRing;
use crate::support::{Made, Tokens, claims, signing_key};

/// Its peers ask the clock for every token, so mintage does here.
fn now() -> Timestamp {
    Timestamp(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}

pub(crate) fn contenders(keys: &Keys) -> Made<(Vec<Contender>, Vec<Contender>)> {
    let Keys { algorithm, private, .. } = keys;
    let tokens = |backend| -> Made<Tokens> {
        let key = signing_key(*algorithm, private)?.with_backend(backend)?;
        Tokens::new(key)
    };
    let (mut sign, mut verify) = (Vec::new(), Vec::new());
    for (name, bare, backend) in
        [("mintage", "ring", Backend::Ring), ("mintage-aws-lc", "aws-lc", Backend::AwsLcRs)]
    {
        let (signs, verifies) = bare_runs(keys, backend)?;
        sign.push(Contender::here(bare, signs));
        verify.push(Contender::here(bare, verifies));
        let mut ours = tokens(backend)?;
        sign.push(Contender::here(name, Box::new(move || ours.sign(black_box(&claims())))));
        let mut ours = tokens(backend)?;
        let token = keys.token.clone();
        verify.push(Contender::here(
            name,
            Box::new(move || ours.verify_at(black_box(token.as_bytes()), now())),
        ));
    }
    if *algorithm == Algorithm::Hs256 {
        let mut ours = tokens(Backend::Ring)?;
        let run: Run = Box::new(move || ours.sign_once(black_box(&claims())));
        sign.push(Contender::here("mintage-once", run));
    }
    Ok((sign, verify))
}

fn bare_runs(keys: &Keys, backend: Backend) -> Made<(Run, Run)> {
    let Keys { algorithm, private, .. } = keys;
    let tokens = || Tokens::new(signing_key(*algorithm, private)?);
    let (signed, verified, mut out) = (tokens()?, tokens()?, [0; 256]);
    if backend == Backend::Ring {
        let (one, two) = (OnRing::new(*algorithm, private)?, OnRing::new(*algorithm, private)?);
        Ok((
            Box::new(move || one.sign(black_box(signed.input()), &mut out)),
            Box::new(move || two.verify(black_box(verified.input()), black_box(&verified.raw))),
        ))
    } else {
        let (one, two) = (OnAwsLc::new(*algorithm, private)?, OnAwsLc::new(*algorithm, private)?);
        Ok((
            Box::new(move || one.sign(black_box(signed.input()), &mut out)),
            Box::new(move || two.verify(black_box(verified.input()), black_box(&verified.raw))),
        ))
    }
}
