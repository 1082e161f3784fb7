//! What mintage adds to ring, in instructions: `.ci/instructions` runs this under callgrind and
//! compares what is spent inside the functions of `benches/support` that each contender has to
//! itself. By itself it says that every one of them works.

mod support;

use std::hint::black_box;

use mintage::codec::algorithm::Algorithm;
use support::{Made, Tokens, claims};

/// How often each operation is done. Caches and branches do not count, so a few do.
const RUNS: usize = 20;

fn main() -> Made<()> {
    for algorithm in [Algorithm::Hs256, Algorithm::EdDsa] {
        let private = support::private_key(algorithm)?;
        let bare = support::bare_ring::Bare::new(algorithm, &private)?;
        let mut tokens = Tokens::new(support::signing_key(algorithm, &private)?)?;
        let (token, mut out) = (tokens.token.clone(), [0; 256]);
        // ring finds out what the processor can do, once.
        let mut done = bare.sign(b"", &mut out);
        for _ in 0..RUNS {
            match algorithm {
                Algorithm::Hs256 => {
                    done &= hs256::ring_sign(&bare, tokens.input(), &mut out);
                    done &= hs256::ring_verify(&bare, tokens.input(), &tokens.raw);
                    done &= hs256::mintage_sign(&mut tokens);
                    done &= hs256::mintage_verify(&mut tokens, &token);
                }
                _ => {
                    done &= eddsa::ring_sign(&bare, tokens.input(), &mut out);
                    done &= eddsa::ring_verify(&bare, tokens.input(), &tokens.raw);
                    done &= eddsa::mintage_sign(&mut tokens);
                    done &= eddsa::mintage_verify(&mut tokens, &token);
                }
            }
        }
        assert!(done, "{algorithm}");
    }
    Ok(())
}

/// The same functions for each algorithm, so that callgrind counts them apart; the number keeps
/// compilers from making one of two.
macro_rules! counted {
    ($algorithm:ident, $number:literal) => {
        mod $algorithm {
            use super::{Tokens, black_box, claims};
            use crate::support::bare_ring::Bare;

            #[inline(never)]
            pub(super) fn ring_sign(bare: &Bare, input: &[u8], out: &mut [u8; 256]) -> bool {
                black_box($number);
                black_box(bare.sign(black_box(input), out))
            }

            #[inline(never)]
            pub(super) fn ring_verify(bare: &Bare, input: &[u8], raw: &[u8]) -> bool {
                black_box($number);
                black_box(bare.verify(black_box(input), black_box(raw)))
            }

            #[inline(never)]
            pub(super) fn mintage_sign(tokens: &mut Tokens) -> bool {
                black_box($number);
                black_box(tokens.sign(black_box(&claims())))
            }

            #[inline(never)]
            pub(super) fn mintage_verify(tokens: &mut Tokens, token: &str) -> bool {
                black_box($number);
                black_box(tokens.verify(black_box(token.as_bytes())))
            }
        }
    };
}

counted!(hs256, 1);
counted!(eddsa, 2);
