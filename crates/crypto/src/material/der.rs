//! The little of DER (X.690) that keys and signatures need. Strict: of one thing there is one encoding.

use zeroize::Zeroizing;

use crate::secret::SecretBytes;

pub(super) const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const SEQUENCE: u8 = 0x30;
/// What is constructed holds elements.
const CONSTRUCTED: u8 = 0x20;
/// Elements in elements, at most: keys need five.
const DEPTH_MAX: u8 = 16;

/// Bytes that are no DER, or not the expected element.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct NotDer;

/// Reads elements one after the other.
#[derive(Clone)]
pub(super) struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// What is in the one element that these bytes are.
    pub(super) fn only(tag: u8, bytes: &'a [u8]) -> Result<Self, NotDer> {
        let mut outer = Self(bytes);
        let content = outer.take(tag)?;
        outer.finish().map(|()| Self(content))
    }

    /// The tag of the next element.
    pub(super) fn peek(&self) -> Option<u8> {
        self.0.first().copied()
    }

    /// The content of the next element, which must have that tag.
    pub(super) fn take(&mut self, tag: u8) -> Result<&'a [u8], NotDer> {
        match self.element()? {
            (found, content) if found == tag => Ok(content),
            _ => Err(NotDer),
        }
    }

    /// A non-negative INTEGER, without leading zeros.
    pub(super) fn unsigned(&mut self) -> Result<&'a [u8], NotDer> {
        match self.take(INTEGER)? {
            [0] => Ok(&[]),
            [0, rest @ ..] if rest[0] >= 0x80 => Ok(rest),
            number @ [1..=0x7f, ..] => Ok(number),
            _ => Err(NotDer),
        }
    }

    /// Fails unless everything was read.
    pub(super) fn finish(self) -> Result<(), NotDer> {
        if self.0.is_empty() { Ok(()) } else { Err(NotDer) }
    }

    fn element(&mut self) -> Result<(u8, &'a [u8]), NotDer> {
        let (&tag, rest) = self.0.split_first().ok_or(NotDer)?;
        let (&first, rest) = rest.split_first().ok_or(NotDer)?;
        // Long tags occur in no key, and a length has one encoding, the shortest.
        let (len, rest) = match (tag & 0x1f, first) {
            (0x1f, _) => return Err(NotDer),
            (_, 0..=0x7f) => (first.into(), rest),
            (_, 0x81..=0x83) => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x7f)).ok_or(NotDer)?;
                let len = bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
                if bytes[0] == 0 || len < 0x80 {
                    return Err(NotDer);
                }
                (len, rest)
            }
            _ => return Err(NotDer),
        };
        let (content, rest) = rest.split_at_checked(len).ok_or(NotDer)?;
        self.0 = rest;
        Ok((tag, content))
    }

    /// Whether all that is left is DER throughout.
    pub(super) fn check(self) -> Result<(), NotDer> {
        self.check_at(DEPTH_MAX)
    }

    fn check_at(mut self, depth: u8) -> Result<(), NotDer> {
        let depth = depth.checked_sub(1).ok_or(NotDer)?;
        while !self.0.is_empty() {
            let (tag, content) = self.element()?;
            if tag & CONSTRUCTED != 0 {
                Self(content).check_at(depth)?;
            }
        }
        Ok(())
    }
}

/// An element of those parts. It may hold a secret, so it is wiped.
pub(super) fn element(tag: u8, parts: &[&[u8]]) -> SecretBytes {
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let bytes = len.to_be_bytes();
    let length = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len() - 1)..];
    let mut out = Zeroizing::new(Vec::with_capacity(2 + length.len() + len));
    out.push(tag);
    if len >= 0x80 {
        out.push(0x80 | u8::try_from(length.len()).expect("a length has at most 8 bytes"));
    }
    out.extend_from_slice(length);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// An INTEGER of that big-endian number.
pub(super) fn unsigned(number: &[u8]) -> SecretBytes {
    let number = &number[number.iter().take_while(|byte| **byte == 0).count()..];
    let sign: &[u8] = if number.first().is_none_or(|byte| *byte >= 0x80) { &[0] } else { &[] };
    element(INTEGER, &[sign, number])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_length_has_one_encoding() {
        for len in [0, 1, 0x7f, 0x80, 0xff, 0x100, 0xffff, 0x1_0000] {
            let bytes = element(OCTET_STRING, &[&vec![7; len]]);
            let mut content = Der::new(&bytes);
            assert_eq!(content.take(OCTET_STRING).unwrap().len(), len);
            content.finish().unwrap();
        }
        let long: [&[u8]; 7] = [
            &[4, 0x81, 1, 7],
            &[4, 0x82, 0, 0x80],
            &[4, 0x80, 0, 0],
            &[4, 0x84, 0, 0, 0, 1],
            &[0x1f, 1, 0],
            &[4, 2, 1],
            &[4],
        ];
        assert!(long.iter().all(|bytes| Der::new(bytes).element().is_err()));
    }

    #[test]
    fn a_number_has_one_encoding() {
        for number in [&[][..], &[1], &[0x7f], &[0x80], &[1, 0], &[0xff, 0xff]] {
            let bytes = unsigned(&[&[0, 0], number].concat());
            assert_eq!(Der::new(&bytes).unsigned(), Ok(number));
        }
        for bad in [&[2, 0][..], &[2, 2, 0, 1], &[2, 1, 0x80], &[2, 2, 0, 0], &[4, 1, 1]] {
            assert_eq!(Der::new(bad).unsigned(), Err(NotDer), "{bad:?}");
        }
    }

    #[test]
    fn everything_is_looked_at() {
        let good = element(SEQUENCE, &[&unsigned(&[5]), &element(SEQUENCE, &[&unsigned(&[6])])]);
        assert_eq!(Der::new(&good).check(), Ok(()));
        let deep = (0..20).fold(element(SEQUENCE, &[]), |inner, _| element(SEQUENCE, &[&inner]));
        assert_eq!(Der::new(&deep).check(), Err(NotDer));
        let bad = element(SEQUENCE, &[&[2, 0x81, 1, 5]]);
        assert_eq!(Der::new(&bad).check(), Err(NotDer));
        assert!(Der::only(SEQUENCE, &[&good[..], &[0]].concat()).is_err());
    }

    proptest! {
        #[test]
        fn reading_never_panics(bytes: Vec<u8>) {
            let _ = Der::new(&bytes).check();
            let _ = Der::new(&bytes).unsigned();
        }
    }
}
