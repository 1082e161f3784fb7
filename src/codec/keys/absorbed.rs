//! A MAC that has taken in what many tokens start with, so that it is hashed once and not for each.

use ring::hmac;

/// An HMAC-SHA-256 state and how many bytes of the signing input are in it. It holds what can forge
/// tokens, as the key does.
#[derive(Clone)]
pub(in crate::codec) struct Absorbed {
    state: hmac::Context,
    len: usize,
}

impl Absorbed {
    /// Nothing absorbed yet.
    pub(super) fn nothing(key: &hmac::Key) -> Absorbed {
        Absorbed { state: hmac::Context::with_key(key), len: 0 }
    }

    /// As this, and then `more`.
    pub(in crate::codec) fn and(&self, more: &[u8]) -> Absorbed {
        let mut state = self.state.clone();
        state.update(more);
        Absorbed { state, len: self.len + more.len() }
    }

    /// The tag of `input`, which must start with what was absorbed.
    pub(super) fn tag(&self, input: &[u8]) -> hmac::Tag {
        let mut state = self.state.clone();
        state.update(input.get(self.len..).unwrap_or(&[]));
        state.sign()
    }
}
